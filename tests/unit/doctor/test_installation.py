"""Packages against the lock, the processor's abilities, memory, the clock."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pytest

from monolith.doctor import installation
from monolith.doctor.findings import Finding
from monolith.settings import Settings
from monolith.settings_loading import LoadedSettings, load_settings

GIB = 2**30


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_this_environment_is_as_locked() -> None:
    (found,) = installation.packages()
    assert found.level == "ok"
    assert "packages as locked" in found.found


def test_what_differs_from_the_lock_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "# made\n"
        f"msgspec=={version('msgspec')} \\\n    --hash=sha256:00\n"
        "apsw==0.1 \\\n    --hash=sha256:00\n"
        "no-such-package==1.0\n"
        "only-elsewhere==2.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    missing, other = installation.packages(lock)
    assert (missing.level, missing.found) == ("problem", "not installed: no-such-package")
    assert other.level == "warning"
    assert other.found == f"not as locked: apsw {version('apsw')} (locked 0.1)"


def test_without_a_lock_file_nothing_is_compared(tmp_path: Path) -> None:
    assert levels(installation.packages(tmp_path / "none")) == ["ok"]


@pytest.mark.parametrize(("flags", "level"), [("fpu avx2 avx512f", "ok"), ("fpu sse2", "warning")])
def test_a_processor_without_avx2_is_slow(flags: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (found,) = installation.processor(f"model name\t: Old Chip\nflags\t\t: {flags}\n")
    assert found.level == level
    assert found.found.startswith("Old Chip")


def test_more_workers_than_fit_are_a_problem() -> None:
    (found,) = installation.resources(Settings(workers=8), cores=16, memory=2 * GIB)
    assert found.level == "problem" and "VIDEO_ANALYSIS_WORKERS" in found.help
    (found,) = installation.resources(Settings(workers=8), cores=2, memory=64 * GIB)
    assert found.level == "warning"
    assert levels(installation.resources(Settings(), cores=4, memory=16 * GIB)) == ["ok"]


@pytest.mark.parametrize(
    ("now", "synchronised", "level"),
    [(0.0, True, "problem"), (2e9, True, "ok"), (2e9, False, "warning")],
)
def test_the_clock(now: float, synchronised: bool, level: str) -> None:
    assert levels(installation.clock(now, synchronised)) == [level]


def test_the_kernel_is_asked_about_the_clock() -> None:
    assert levels(installation.clock(2e9))[0] in ("ok", "warning")


def test_settings_are_shown_with_their_origin_and_without_secrets(tmp_path: Path) -> None:
    environment = {"VIDEO_ANALYSIS_PORT": "8123", "VIDEO_ANALYSIS_API_KEY": "hunter2"}
    loaded: LoadedSettings = load_settings(environment=environment, folder=tmp_path)
    (found,) = installation.settings_found(loaded, None)
    assert "port=8123 (environment)" in found.found
    assert "hunter2" not in found.found
    wrong = list(installation.settings_found(None, "PORT: wrong\nHOST: wrong"))
    assert levels(wrong) == ["problem", "problem"]


def test_weights_limits_and_python_are_looked_at() -> None:
    assert levels(installation.models()) == ["ok"]
    assert levels(installation.python()) == ["ok"]
    assert len(levels(installation.open_files())) == 1
