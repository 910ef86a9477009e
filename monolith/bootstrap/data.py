"""What lies where in the data directory, and owning it for a while without a server."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.leases import LEASE_PREFIX
from eventsourcing.store import DurableEventStore
from monolith.datadir import DataDirError, DataDirLock
from monolith.settings import Settings
from monolith.settings_loading import leave_forks_alone
from monolith.storage import FileStorage
from monolith.store_guard import watch_identity

EVENTS: Final = "events.db"
READ_MODELS: Final = "readmodels.db"
ANALYTICS: Final = "analytics"

_KEPT_OF_LEASES: Final = 10
_FOLDERS: Final = ("videos", "uploads", ANALYTICS, f"{ANALYTICS}-scratch")
_SHARED_FOLDERS: Final = ("videos", "uploads", "secrets")

logger = logging.getLogger(__name__)


@asynccontextmanager
async def owned_data(settings: Settings) -> AsyncIterator[tuple[Path, DurableEventStore]]:
    """The data directory, which this process owns within the context, and its events.

    Raises DataDirError, also where there are no events, and StoreUnavailableError.
    """
    folder = settings.data_dir.absolute()
    if not settings.kurrentdb_uri.get_secret_value() and not await asyncio.to_thread(
        (folder / EVENTS).is_file
    ):
        raise DataDirError(f"there are no events in {folder}; name a data directory that has been used")
    with DataDirLock.acquire(folder):
        await asyncio.to_thread(check_folders, folder)
        store = await open_store(settings)
        try:
            yield folder, store
        finally:
            await store.close()


def check_folders(folder: Path) -> None:
    """Blocks. Raises DataDirError where something else lies in the place of a folder of ours."""
    _check(folder, _FOLDERS, "data directory (VIDEO_ANALYSIS_DATA_DIR)")


def _check(folder: Path, names: Iterable[str], named: str) -> None:
    for name in names:
        path = folder / name
        if os.path.lexists(path) and not path.is_dir():
            raise DataDirError(
                f"{path} is no folder, but the program keeps its files in a folder of that name; move it away, or name"
                f" another {named}"
            )


def prepare_folders(settings: Settings, storage: FileStorage) -> None:
    """Make those for videos and uploads. Blocks. Raises DataDirError where they cannot be."""
    shared = settings.shared_folder
    if settings.shared_dir is not None:
        _check(shared, _SHARED_FOLDERS, "folder to be shared (VIDEO_ANALYSIS_SHARED_DIR)")
    try:
        storage.prepare()
    except OSError as error:
        setting = "VIDEO_ANALYSIS_SHARED_DIR" if settings.shared_dir else "VIDEO_ANALYSIS_DATA_DIR"
        raise DataDirError(
            f"there can be no folders in {shared}: {error.strerror or error}; give this user the right to write there,"
            f" or name another folder ({setting})"
        ) from error


def storage_of(settings: Settings) -> FileStorage:
    """Where the files lie that the settings name."""
    folder = settings.data_dir.absolute()
    return FileStorage(folder, settings.min_free_bytes, shared=settings.shared_folder)


async def open_store(settings: Settings) -> DurableEventStore:
    """The event store that the settings name. Raises StoreUnavailableError, with what would help."""
    uri, file = settings.kurrentdb_uri.get_secret_value(), settings.data_dir.absolute() / EVENTS
    if not uri:
        return await _open_sqlite(file)
    if await asyncio.to_thread(file.is_file):
        logger.warning(
            "the events in %s are not read, and their videos not shown: VIDEO_ANALYSIS_KURRENTDB_URI names another"
            " event store, and moving events there is not built",
            file,
        )
    return await _open_kurrentdb(uri, settings)


async def watch_store(store: DurableEventStore) -> None:
    """Of a server: until cancelled. Raises StoreReplacedError where it keeps another database than at the start."""
    from eventsourcing.adapters.kurrentdb_identity import identity_now

    await watch_identity(store.identity, lambda: identity_now(store))


async def _open_kurrentdb(uri: str, settings: Settings) -> DurableEventStore:
    certificates: bytes | None = None
    try:
        if settings.kurrentdb_ca is not None:
            certificates = await asyncio.to_thread(settings.kurrentdb_ca.read_bytes)
    except OSError as error:
        raise StoreUnavailableError(
            f"{settings.kurrentdb_ca}: {error.strerror}; name the CA certificates of the KurrentDB server"
            " (VIDEO_ANALYSIS_KURRENTDB_CA)"
        ) from error
    leave_forks_alone()
    # The driver takes time to load, and most programs do without it.
    from eventsourcing.adapters.kurrentdb import KurrentDbEventStore

    try:
        return await KurrentDbEventStore.open(
            uri, root_certificates=certificates, keep_newest={LEASE_PREFIX: _KEPT_OF_LEASES}
        )
    except ValueError as error:
        raise StoreUnavailableError(
            f"VIDEO_ANALYSIS_KURRENTDB_URI is no address of a KurrentDB server: {error}; right would be"
            " kurrentdb://HOST:2113?tls=false, or kurrentdb+discover://USER:PASSWORD@CLUSTER:2113"
        ) from error
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"{error}; check that the server of VIDEO_ANALYSIS_KURRENTDB_URI runs and is reachable from here"
        ) from error


async def _open_sqlite(path: Path) -> DurableEventStore:
    try:
        return await SqliteEventStore.open(path)
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"{path}: {error}; put back a sound copy of this file, or name another data directory"
        ) from error
