"""The analytics files: whether their index is of this version, and every file that it names is there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from typing import Final

import apsw

from monolith.doctor.data_directory import NOTHING_YET, open_to_read
from monolith.doctor.findings import Finding, ok, problem, warning
from monolith.readmodels.analytics_index import SIGNATURE
from monolith.settings import Settings

_CHECK_SECONDS: Final = 4.0
_FILES: Final = "SELECT DISTINCT video_id, run_id, file FROM segments WHERE file IS NOT NULL"
_PARQUET: Final = b"PAR1"
"""At both ends of a file."""
_AGAIN: Final = (
    "`video-analysis rebuild --projection analytics` makes them again; until then answers are slower"
)


def analytics_files(settings: Settings) -> Iterator[Finding]:
    """Each file is looked at by its beginning and its end, as many as there is time for."""
    root = settings.data_dir.absolute() / "analytics"
    if not os.path.lexists(root):
        yield ok("analytics", NOTHING_YET)
        return
    if not root.is_dir():
        yield problem("analytics", f"{root} is no folder", "move it away: the program keeps its files there")
        return
    try:
        with closing(open_to_read(root / "index.db")) as index:
            yield _look(root, index)
    except apsw.Error as error:
        yield warning("analytics", f"{root / 'index.db'}: {error}", "they are made again at the next start")


def _look(root: Path, index: apsw.Connection) -> Finding:
    """Raises apsw.Error."""
    if index.execute("SELECT value FROM meta WHERE key = 'signature'").get != SIGNATURE:
        text = "of another version of the program"
        return warning(
            "analytics", text, "they are made again at the next start, which makes answers slower for a while"
        )
    named, end = _named(root, index), time.monotonic() + _CHECK_SECONDS
    looked = list(takewhile(lambda _: time.monotonic() < end, named))
    flawed = [path for path in looked if not _is_parquet(path)]
    if flawed:  # a server may have let go of them just now
        still = set(_named(root, index))
        flawed = [path for path in flawed if path in still]
    if flawed:
        text = f"{len(flawed)} of {len(looked)} files are missing or damaged, such as {flawed[0]}"
        return warning("analytics", text, _AGAIN)
    if parked := index.execute("SELECT count(*) FROM parked").get:
        return warning("analytics", f"{parked} segments could not be read; the log says why", _AGAIN)
    some = "" if len(looked) == len(named) else f", {len(looked)} looked at"
    return ok("analytics", f"{len(named)} files of this version, none is missing{some}")


def _named(root: Path, index: apsw.Connection) -> list[Path]:
    return [root.joinpath(*names) for names in index.execute(_FILES)]


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begin = file.read(len(_PARQUET))
            file.seek(-len(_PARQUET), os.SEEK_END)
            return begin == file.read() == _PARQUET
    except OSError:
        return False
