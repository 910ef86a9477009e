"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_BLANKS: Final = re.compile(r"\s+")


def cell(text: object) -> str:
    """Text on one line that cannot end its table cell."""
    return _BLANKS.sub(" ", str(text)).strip().replace("|", r"\|")


def code(text: object) -> str:
    """`text` as code; nothing for nothing."""
    plain = _BLANKS.sub(" ", str(text)).strip()
    return f"`{plain}`" if plain else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def page(title: str, source: str, parts: Iterable[str]) -> str:
    """A whole page; `source` says what it was made from."""
    note = f"Made by `python -m tools.docs` from {source}; a test compares it with what the program says."
    return "\n\n".join([f"# {title}", note, *(part for part in parts if part)]) + "\n"
