"""An event store that another has taken the place of is refused: what lies in the folders, and what this program knows,
does not fit it, and what it took in would be lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

from eventsourcing.errors import StoreUnavailableError
from monolith.datadir import DataDirError

FILE: Final = "event-store"
"""In the shared folder: the identity of the store whose videos lie there."""
LOOK_SECONDS: Final = 3.0
_LOOKS: Final = 2
"""In a row; one might be a reading that was cut off."""


class StoreReplacedError(Exception):
    """Another database answers than the one that the program began with."""


async def watch_identity(identity: str, ask: Callable[[], Awaitable[str | None]]) -> None:
    """Until cancelled, while `ask` finds `identity`, or nobody answers. Raises StoreReplacedError."""
    others, found = 0, None
    while others < _LOOKS:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            found = await ask()
        except (StoreUnavailableError, TimeoutError):
            continue
        others = 0 if found == identity else others + 1
    what = "an empty one" if found is None else f"one of the identity {found}"
    raise StoreReplacedError(
        f"the event store was replaced while the program ran: it has the identity {identity} no more, it is {what};"
        " nothing fits it that this program knows. Put the right database back under VIDEO_ANALYSIS_KURRENTDB_URI and"
        " start again"
    )


def claim_folder(folder: Path, identity: str) -> None:
    """For the store of this identity, where no other has done so. Blocks. Raises DataDirError."""
    path = folder / FILE
    try:
        owner = _owner(path) or _written(path, identity)
    except OSError as error:
        raise DataDirError(
            f"{path}: {error.strerror or error}; all copies must be able to read and write there"
        ) from error
    if owner != identity:
        raise DataDirError(
            f"the shared folder {folder} belongs to the event store {owner}, and VIDEO_ANALYSIS_KURRENTDB_URI leads to"
            f" another, {identity}: name the right server, or another folder (VIDEO_ANALYSIS_SHARED_DIR); who means"
            f" this folder to go to the other store removes {path}"
        )


def _owner(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def _written(path: Path, identity: str) -> str:
    """What stands there: of several copies that write at once one is the first."""
    part = path.with_name(f".{FILE}-{uuid4().hex}")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(f"{identity}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
    return _owner(path) or identity
