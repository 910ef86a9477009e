"""House rules about files: weights are accounted for, modules stay short, every module says what it is."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
WEIGHTS: Final = ROOT / "monolith" / "inference" / "weights"
SOURCES: Final = sorted(
    path for folder in ("eventsourcing", "monolith", "tools") for path in (ROOT / folder).rglob("*.py")
)
LONGEST: Final = 400
LONG_FOR_A_REASON: Final = {
    "eventsourcing/adapters/_sqlite_writer.py": "the one writer thread: all that it does shares its connection",
    "monolith/settings.py": "one table: every setting, and what makes it right",
    "monolith/readmodels/projector.py": "one function for each kind of event, side by side",
}


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_weight_file_is_listed_with_its_digest_and_licence() -> None:
    readme = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    files = [path for path in WEIGHTS.iterdir() if path.name != "README.md"]
    assert files
    for file in files:
        (line,) = (line for line in readme.splitlines() if line.startswith(f"| `{file.name}`"))
        assert hashlib.sha256(file.read_bytes()).hexdigest() in line
        assert "MIT" in line or "Apache-2.0" in line


def test_modules_stay_short_or_have_a_reason() -> None:
    lines = {_relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {
        name: count for name, count in lines.items() if count > LONGEST
    }.keys() <= LONG_FOR_A_REASON.keys()
    assert LONG_FOR_A_REASON.keys() <= lines.keys()


def test_every_module_says_what_it_is() -> None:
    silent = [
        _relative(path)
        for path in SOURCES
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
