"""The tests in this folder run every line and every branch of the parsers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARSERS = "monolith/protocols/"


def test_every_line_and_branch_of_the_parsers_is_tested(tmp_path: Path) -> None:
    report = tmp_path / "coverage.json"
    coverage = [sys.executable, "-m", "coverage"]
    data = f"--data-file={tmp_path / 'data'}"
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE), f"--ignore={__file__}"]
    done = subprocess.run(
        [*coverage, "run", "--branch", f"--include={PARSERS}*", data, *tests],
        capture_output=True, check=False, cwd=HERE.parents[2], timeout=200, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    subprocess.run(
        [*coverage, "json", data, "-o", report],
        check=True,
        capture_output=True,
        cwd=HERE.parents[2],
        timeout=60,
    )
    files = json.loads(report.read_text())["files"]
    written = {
        path.relative_to(HERE.parents[2]).as_posix() for path in (HERE.parents[2] / PARSERS).rglob("*.py")
    }
    assert {name for name in written if name not in files and not name.endswith("__init__.py")} == set()
    missing = {
        name: (file["missing_lines"], file["missing_branches"])
        for name, file in files.items()
        if file["missing_lines"] or file["missing_branches"]
    }
    assert missing == {}
