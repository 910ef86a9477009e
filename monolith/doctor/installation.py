"""What is installed, and what the machine offers."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from monolith.doctor.findings import Finding, ok, problem, warning
from monolith.inference.models.catalogue import verify
from monolith.inference.sizing import WORKER_BYTES, available_cores, available_memory, size_workers
from monolith.settings import Settings
from monolith.settings_loading import LoadedSettings, variable

LOCK_FILE: Final = Path(__file__).parents[2] / "requirements.lock"
OLDEST_PYTHON: Final = (3, 11)
MADE: Final = 1_767_225_600.0
"""2026-01-01: no clock that is right shows an earlier time."""

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(\s*;)?", re.MULTILINE)
_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_FEW_FILES: Final = 4_096
_NOT_SYNCHRONISED: Final = 5
_TIMEX_BYTES: Final = 256
_SECRETS: Final = ("api_key",)


def python() -> Iterator[Finding]:
    found = f"Python {platform.python_version()} ({sys.executable}), {platform.system()} {platform.release()}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield problem("python", found, "use Python 3.11 or newer")
    else:
        yield ok("python", found)


def packages(lock_file: Path = LOCK_FILE) -> Iterator[Finding]:
    """What is installed against what the lock file says."""
    if not lock_file.is_file():
        yield ok("packages", "no lock file lies beside the program: versions were chosen at its installation")
        return
    pins = _PIN.findall(lock_file.read_text(encoding="utf-8"))
    wanted: dict[str, set[str]] = {}
    for name, number, _ in pins:
        wanted.setdefault(name, set()).add(number)
    elsewhere = {name for name, _, marker in pins if marker}
    missing, other = _compare(wanted, elsewhere)
    again = "install what is locked: `pip install --require-hashes -r requirements.lock`, or ./run.sh"
    if missing:
        yield problem("packages", f"not installed: {', '.join(missing)}", again)
    if other:
        yield warning("packages", f"not as locked: {', '.join(other)}", again)
    if not missing and not other:
        yield ok("packages", f"{len(wanted)} packages as locked")


def _compare(wanted: Mapping[str, set[str]], elsewhere: set[str]) -> tuple[list[str], list[str]]:
    """Names that are missing (but those that may be for other machines only), and those of other versions."""
    missing, other = [], []
    for name, numbers in wanted.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            if name not in elsewhere:
                missing.append(name)
            continue
        if found not in numbers:
            other.append(f"{name} {found} (locked {' or '.join(sorted(numbers))})")
    return missing, other


def processor(cpuinfo: str) -> Iterator[Finding]:
    """`cpuinfo`: text of /proc/cpuinfo."""
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    has = [flag for flag in _FLAGS if flags and flag in flags[1].split()]
    name = model[1] if model else platform.machine()
    if platform.machine() == "x86_64" and "avx2" not in has:
        slow = "inference works, several times slower; take a processor with AVX2"
        yield warning("processor", f"{name}, without AVX2", slow)
    else:
        yield ok("processor", f"{name}{': ' + ', '.join(has) if has else ''}")


def resources(settings: Settings, cores: int | None = None, memory: int | None = None) -> Iterator[Finding]:
    """Cores and memory as affinity and cgroups leave them, and what is made of them."""
    cores, memory = cores or available_cores(), memory or available_memory()
    sizing = size_workers(
        cores, memory, workers=settings.workers or None, threads=settings.worker_threads or None
    )
    of = f" (of {os.cpu_count()})" if os.cpu_count() != cores else ""
    found = (
        f"{cores} cores{of}, {memory / 2**30:.1f} GiB of memory: {sizing.workers} inference processes of"
        f" {sizing.threads} threads"
    )
    if sizing.workers * WORKER_BYTES > memory:
        yield problem("cores and memory", found, f"lower {variable('workers')}, or give more memory")
    elif sizing.workers * sizing.threads > cores:
        yield warning("cores and memory", found, f"more threads than cores: lower {variable('workers')}")
    else:
        yield ok("cores and memory", found)


def open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"this process may open {_count(soft)} files (at most {_count(hard)})"
    if soft != resource.RLIM_INFINITY and soft < _FEW_FILES:
        yield warning(
            "open files", found, f"`ulimit -n {_FEW_FILES}`, or LimitNOFILE= of the service, for many clients"
        )
    else:
        yield ok("open files", found)


def _count(limit: int) -> str:
    return "any number of" if limit == resource.RLIM_INFINITY else str(limit)


def clock(now: float | None = None, synchronised: bool | None = None) -> Iterator[Finding]:
    """`synchronised`: whether the kernel believes that its clock is right; None: ask it."""
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < MADE:
        yield problem("clock", f"{shown} is in the past", "set the clock: events and certificates rely on it")
        return
    if synchronised is None:
        synchronised = _synchronised()
    if synchronised:
        yield ok("clock", f"{shown}, synchronised")
    else:
        text = f"{shown}; the kernel says that nothing keeps it right"
        yield warning(
            "clock", text, "run an NTP service (chrony, systemd-timesyncd) on this machine or its host"
        )


def _synchronised() -> bool:
    """As `adjtimex` says (modes 0: nothing is changed)."""
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))) != _NOT_SYNCHRONISED


def models() -> Iterator[Finding]:
    wrong = [check for check in verify() if not check.ok]
    for check in wrong:
        what = "is missing" if check.actual is None else f"has sha256 {check.actual}, not {check.expected}"
        again = (
            "get the weights again: `git checkout monolith/inference/weights`, or install the program again"
        )
        yield problem("models", f"{check.file} {what}", again)
    if not wrong:
        yield ok("models", f"{len(verify())} weight files are the right ones")


def settings_found(loaded: LoadedSettings | None, error: str | None) -> Iterable[Finding]:
    """What was set, and where; secrets are only said to be set."""
    if loaded is None:
        for line in (error or "").splitlines():
            yield problem("settings", line, "the rest is looked at with the settings as they are by default")
        return
    changed = {name: origin for name, origin in loaded.origins.items() if origin != "default"}
    values = loaded.settings.model_dump(mode="json")
    shown = [
        f"{name}={'***' if name in _SECRETS else values[name]} ({origin})" for name, origin in changed.items()
    ]
    yield ok("settings", f"file: {loaded.file or 'none'}; {', '.join(shown) or 'all as by default'}")
