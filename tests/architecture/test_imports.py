"""House rules that the code itself must keep: imports point inward, nothing happens at import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = sorted(
    path for folder in ("eventsourcing", "monolith") for path in (ROOT / folder).rglob("*.py")
)

MAY_IMPORT: Final[dict[str, tuple[str, ...]]] = {
    "eventsourcing": ("eventsourcing",),
    "monolith.domain": ("monolith.domain", "eventsourcing"),
    "monolith.application": (
        "monolith.application",
        "monolith.domain",
        "eventsourcing",
        # the words that its ports share with the processes behind them
        "monolith.ingest.messages",
        "monolith.inference.messages",
        # live packets and who reads them: plain data in memory
        "monolith.live.feeds",
        "monolith.live.packets",
    ),
}
"""Our own packages that a package may import; packages that are not named here may import any but `OUTERMOST`."""

OUTERMOST: Final = ("monolith.bootstrap", "monolith.cli", "monolith.__main__")
"""What only the outermost ring may import."""

DRIVERS: Final = {
    "apsw",
    "httpx",
    "httpcore",
    "fastapi",
    "uvicorn",
    "av",
    "openvino",
    "cv2",
    "polars",
    "typer",
}
PURE: Final = ("eventsourcing", "monolith.domain", "monolith.application")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            assert node.module is not None
            yield node.module


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def ring_of(module: str) -> str | None:
    return next((ring for ring in MAY_IMPORT if within(module, (ring,))), None)


def outward(module: str, imported: str) -> bool:
    """Whether an import leads from an inner ring to an outer one."""
    if not within(imported, ("eventsourcing", "monolith")):
        return False
    ring = ring_of(module)
    if ring is not None:
        return not within(imported, MAY_IMPORT[ring])
    return within(imported, OUTERMOST) and not within(module, OUTERMOST)


def test_imports_point_inward() -> None:
    pairs = [(name_of(path), imported) for path in MODULES for imported in imports_of(path)]
    assert len(pairs) > 100
    assert [pair for pair in pairs if outward(*pair)] == []


def test_the_inner_rings_touch_no_driver() -> None:
    touched = [
        (name_of(path), imported)
        for path in MODULES
        for imported in imports_of(path)
        if within(name_of(path), PURE)
        and not within(name_of(path), ("eventsourcing.adapters",))
        and imported.partition(".")[0] in DRIVERS
    ]
    assert touched == []


def test_the_environment_is_read_by_the_settings_alone() -> None:
    texts = {name_of(path): path.read_text(encoding="utf-8") for path in MODULES}
    readers = {name for name, text in texts.items() if "os.environ" in text or "getenv" in text}
    assert readers == {"monolith.settings_loading"}


@pytest.mark.parametrize(
    ("module", "imported", "expected"),
    [
        ("eventsourcing.store", "monolith.domain.events", True),
        ("monolith.domain.video", "monolith.application.ports", True),
        ("monolith.application.pipeline", "monolith.readmodels.videos", True),
        ("monolith.application.ports", "monolith.ingest.messages", False),
        ("monolith.api.app", "monolith.bootstrap", True),
        ("monolith.cli.app", "monolith.bootstrap", False),
        ("monolith.api.app", "fastapi", False),
    ],
)
def test_the_rule_itself(module: str, imported: str, expected: bool) -> None:
    assert outward(module, imported) is expected


_WATCH: Final = """
import importlib, os, socket, sys, threading

def audit(event, arguments):
    if event == "subprocess.Popen" and arguments[0] == "/sbin/ldconfig":
        return  # how a library of aiortc's finds the C library
    if event in {"socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"}:
        print("at import:", event, arguments, flush=True)
        os._exit(1)

before = set(threading.enumerate())
sys.addaudithook(audit)
for name in sys.argv[1:]:
    importlib.import_module(name)
ours = [t.name for t in set(threading.enumerate()) - before if not t.daemon]
print("threads:", ours) if ours else None
sys.exit(bool(ours))
"""


def test_nothing_connects_or_starts_at_import() -> None:
    """All modules are imported in one fresh interpreter that reports connections, processes and threads."""
    names = [name_of(path) for path in MODULES if path.stem != "__main__"]
    done = subprocess.run(
        [sys.executable, "-c", _WATCH, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_help_and_a_client_load_no_engine() -> None:
    """The command line answers at once: engines and the web framework come with the commands that need them."""
    script = "import sys, monolith.cli.app; print(*sorted({'openvino', 'cv2', 'fastapi'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
