"""Where files lie in the data directory, and who may read them.

DATA_DIR/
├── events.db              the event store
├── readmodels.db          what answers are built from; can be rebuilt
├── process-manager.json   which videos are unfinished; can be lost
├── secrets/               URLs with passwords, mode 0600
├── uploads/               uploaded files until their first run has ended
└── videos/VIDEO_ID/
    ├── source             the fetched file until the first run has ended
    ├── pts.npy            the sorted pts of its pictures
    └── packs/             stored frames, one file for each attempt at a segment
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Set
from pathlib import Path
from typing import Final

import msgspec

from monolith.application.errors import EnvironmentFailure
from monolith.application.open_videos import Snapshot

logger = logging.getLogger(__name__)

_LEAST_FREE: Final = 4 << 20
"""Below it even an event cannot be relied on to find room."""


class FileStorage:
    """The `Storage` port on a local file system. Methods raise OSError."""

    def __init__(self, folder: Path, min_free_bytes: int = 0) -> None:
        self._folder_of_all = folder
        self._min_free = max(min_free_bytes, _LEAST_FREE)
        self._videos = folder / "videos"
        self.uploads = folder / "uploads"

    def prepare(self) -> None:
        """Make the folders; remove uploads that were never finished (`*.part`)."""
        self._videos.mkdir(parents=True, exist_ok=True)
        self.uploads.mkdir(parents=True, exist_ok=True)
        for part in self.uploads.glob("*.part"):
            part.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """What is free on the disk of the data directory."""
        return shutil.disk_usage(self._folder_of_all).free

    def require_room(self) -> None:
        """Raises EnvironmentFailure when less is free than the settings want kept free."""
        free = self.free_bytes()
        if free < self._min_free:
            raise EnvironmentFailure(
                f"the disk of {self._folder_of_all} is full: {free >> 20} MiB are free, {self._min_free >> 20} MiB "
                "must stay free (VIDEO_ANALYSIS_MIN_FREE_BYTES); work goes on when there is room"
            )

    def spool_path(self, video_id: str) -> Path:
        return self._folder(video_id) / "source"

    def scan_path(self, video_id: str) -> Path:
        return self._folder(video_id) / "pts.npy"

    def pack_path(self, video_id: str, pack: str) -> Path:
        packs = self._folder(video_id) / "packs"
        packs.mkdir(exist_ok=True)
        return packs / _plain(pack)

    async def remove_source(self, video_id: str, location: str) -> int:
        """Remove what was fetched or uploaded for the video, never a file outside the data directory."""
        return await asyncio.to_thread(self._remove_source, video_id, Path(location))

    async def remove_sources_but(self, video_ids: Set[str], locations: Set[str]) -> int:
        """Remove fetched and uploaded files but those of `video_ids` and at `locations`; bytes freed."""
        return await asyncio.to_thread(self._remove_sources_but, video_ids, locations)

    async def remove_video(self, video_id: str) -> int:
        """Remove the video's folder; bytes freed."""
        return await asyncio.to_thread(_remove_tree, self._videos / _plain(video_id))

    def _folder(self, video_id: str) -> Path:
        folder = self._videos / _plain(video_id)
        folder.mkdir(exist_ok=True)
        return folder

    def _remove_source(self, video_id: str, location: Path) -> int:
        folder = self._videos / _plain(video_id)
        files = list(folder.glob("source*")) if folder.is_dir() else []
        if location.parent == self.uploads:
            files.append(location)
        return sum(map(_remove_file, files))

    def _remove_sources_but(self, video_ids: Set[str], locations: Set[str]) -> int:
        fetched = [path for path in self._videos.glob("*/source*") if path.parent.name not in video_ids]
        uploaded = [path for path in self.uploads.iterdir() if str(path) not in locations]
        return sum(map(_remove_file, [*fetched, *uploaded]))


class SnapshotFile:
    """The `Snapshots` port: one JSON file, replaced whole."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "process-manager.json"

    async def load(self) -> Snapshot:
        return await asyncio.to_thread(self._read)

    async def save(self, snapshot: Snapshot) -> None:
        await asyncio.to_thread(self._write, snapshot)

    def _read(self) -> Snapshot:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Snapshot)
        except (FileNotFoundError, msgspec.DecodeError):
            return Snapshot()

    def _write(self, snapshot: Snapshot) -> None:
        """A torn or lost file does no harm, so it is not synced."""
        part = self._path.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(snapshot))
            part.replace(self._path)
        except OSError as error:
            logger.warning("the process manager's snapshot could not be kept: %s", error)


class SecretUrls:
    """The `Secrets` port: one file a video, readable by this user alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "secrets"

    async def keep_url(self, video_id: str, url: str) -> None:
        await asyncio.to_thread(self._write, video_id, url)

    async def url_of(self, video_id: str) -> str | None:
        path = self._folder / _plain(video_id)
        return await asyncio.to_thread(path.read_text) if path.exists() else None

    async def forget(self, video_id: str) -> None:
        (self._folder / _plain(video_id)).unlink(missing_ok=True)

    def _write(self, video_id: str, url: str) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / _plain(video_id)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(url)
                file.flush()
                os.fsync(file.fileno())


def _plain(name: str) -> str:
    """A name that stays in its folder. Raises ValueError for any other."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _remove_file(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _remove_tree(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return size
