"""python -m tools.docs [--check]

Writes the generated pages; with --check it writes nothing and ends with 1 where a page is not current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.docs.api import api_page
from tools.docs.asyncapi import asyncapi_text
from tools.docs.cli import cli_page
from tools.docs.events import events_page
from tools.docs.metrics import metrics_page
from tools.docs.performance import performance_table
from tools.docs.settings import settings_page

DOCS: Final = Path(__file__).parents[2] / "docs"
BEGIN: Final = "<!-- made by python -m tools.docs: begin -->"
END: Final = "<!-- end -->"


def pages() -> Iterator[tuple[Path, str]]:
    """Every page that is generated, or has a generated part, as it should be."""
    reference = DOCS / "reference"
    yield reference / "api.md", api_page()
    yield reference / "asyncapi.json", asyncapi_text()
    yield reference / "cli.md", cli_page()
    yield reference / "events.md", events_page()
    yield reference / "metrics.md", metrics_page()
    yield reference / "settings.md", settings_page()
    performance = DOCS / "explanation" / "performance.md"
    yield performance, with_part(performance.read_text(encoding="utf-8"), performance_table())


def with_part(text: str, part: str) -> str:
    """`text` with `part` between the two marks. Raises ValueError where they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no marks {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def outdated() -> list[Path]:
    """Pages that differ from what the program says."""
    return [path for path, text in pages() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("python -m tools.docs takes nothing or --check", file=sys.stderr)
        return 2
    if arguments:
        stale = outdated()
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)} is not current: python -m tools.docs", file=sys.stderr)
        return 1 if stale else 0
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
