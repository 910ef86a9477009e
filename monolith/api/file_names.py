"""Names under which answers are saved."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

_FORBIDDEN: Final = frozenset('/\\:*?"<>|')
_LONGEST: Final = 100


def file_name(video_name: str, ending: str) -> str:
    """A video's name as that of a file on any system. `ending` begins with what comes after the name."""
    stem = video_name.rpartition(".")[0] if "." in video_name[-6:-1] else video_name
    plain = "".join("_" if letter in _FORBIDDEN or ord(letter) < 32 else letter for letter in stem)
    return (plain[:_LONGEST].strip(" .") or "video") + ending


def attachment(video_name: str, ending: str, *, inline: bool = False) -> str:
    """The value of Content-Disposition (RFC 6266). `inline`: shown where it can be."""
    kind, name = "inline" if inline else "attachment", file_name(video_name, ending)
    if name.isascii():
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename*=utf-8''{quote(name, safe='')}"
