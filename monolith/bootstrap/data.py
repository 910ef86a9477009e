"""What lies where in the data directory, and owning it for a while without a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.errors import StoreUnavailableError
from monolith.datadir import DataDirError, DataDirLock
from monolith.settings import Settings

EVENTS: Final = "events.db"
READ_MODELS: Final = "readmodels.db"
ANALYTICS: Final = "analytics"

_FOLDERS: Final = ("videos", "uploads", ANALYTICS, f"{ANALYTICS}-scratch")


@asynccontextmanager
async def owned_data(settings: Settings) -> AsyncIterator[tuple[Path, SqliteEventStore]]:
    """The data directory, which this process owns within the context, and its events.

    Raises DataDirError, also where there are no events, and StoreUnavailableError.
    """
    folder = settings.data_dir.absolute()
    if not await asyncio.to_thread((folder / EVENTS).is_file):
        raise DataDirError(f"there are no events in {folder}; name a data directory that has been used")
    with DataDirLock.acquire(folder):
        await asyncio.to_thread(check_folders, folder)
        store = await open_store(folder / EVENTS)
        try:
            yield folder, store
        finally:
            await store.close()


def check_folders(folder: Path) -> None:
    """Blocks. Raises DataDirError where something else lies in the place of a folder of ours."""
    for name in _FOLDERS:
        path = folder / name
        if os.path.lexists(path) and not path.is_dir():
            raise DataDirError(
                f"{path} is no folder, but the program keeps its files in a folder of that name; move it away, or name"
                " another data directory (VIDEO_ANALYSIS_DATA_DIR)"
            )


async def open_store(path: Path) -> SqliteEventStore:
    """Raises StoreUnavailableError, with what would help."""
    try:
        return await SqliteEventStore.open(path)
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"{path}: {error}; put back a sound copy of this file, or name another data directory"
        ) from error
