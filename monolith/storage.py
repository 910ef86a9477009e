"""Where files lie in the data directory, and who may read them.

DATA_DIR/
├── events.db              the event store
├── readmodels.db          what answers are built from; can be rebuilt
├── retention.json         the last report of a retention; can be lost
├── process-manager.json   which videos are unfinished; can be lost
├── secrets/               URLs with passwords or tokens, mode 0600 (see `secret_urls`)
├── analytics/VIDEO_ID/RUN_ID/SEGMENT….parquet
├── annotating/            annotated videos in the making (see `exports.files`)
├── uploads/               uploaded files until their first run has ended
└── videos/VIDEO_ID/
    ├── source             the fetched file until the first run has ended
    ├── pts.npy            the sorted pts of its pictures
    ├── packs/             stored frames, one file for each attempt at a segment: SEGMENT-RUN-ATTEMPT.mjpeg
    └── annotated/         videos made from stored frames
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Final

import msgspec

from monolith.application.errors import EnvironmentFailure
from monolith.application.open_videos import Snapshot
from monolith.application.retention_report import RetentionReport
from monolith.frames.pack import PackError, read_jpeg

logger = logging.getLogger(__name__)

_SEGMENT: Final = re.compile(r"[0-9]{6,}(?=[-.])")
_REMOVALS: Final = 20
"""How often a folder is tried in which files come and go."""
_LEAST_FREE: Final = 4 << 20
"""Below it even an event cannot be relied on to find room."""


class FrameGoneError(Exception):
    """The pack of the frame was removed."""


class FrameDamagedError(Exception):
    """The pack is there and holds no picture where the frame should be."""


class FileStorage:
    """The `Storage` port on a local file system. Methods raise OSError. Asking for a path makes no folder."""

    def __init__(self, folder: Path, min_free_bytes: int = 0, *, shared: Path | None = None) -> None:
        """`shared`: where videos and uploads lie; None: in `folder`, too."""
        shared = shared or folder
        self._folder_of_all = shared
        self.min_free_bytes = self._min_free = max(min_free_bytes, _LEAST_FREE)
        self._videos = shared / "videos"
        self._analytics = folder / "analytics"
        self.uploads = shared / "uploads"

    def prepare(self) -> None:
        """Make the folders."""
        self._videos.mkdir(parents=True, exist_ok=True)
        self.uploads.mkdir(parents=True, exist_ok=True)

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

    def room_bytes(self) -> int:
        """What may still be written; below 0: less is free than must stay free."""
        return self.free_bytes() - self._min_free

    def spool_path(self, video_id: str) -> Path:
        return self._folder(video_id) / "source"

    def scan_path(self, video_id: str) -> Path:
        return self._folder(video_id) / "pts.npy"

    def pack_path(self, video_id: str, pack: str) -> Path:
        return self._packs(video_id) / plain_name(pack)

    async def prepare_video(self, video_id: str) -> None:
        """Make the folders of the video: before anything is written to its paths."""
        await asyncio.to_thread(self._packs(video_id).mkdir, parents=True, exist_ok=True)

    def read_frame(self, video_id: str, pack: str, offset: int, length: int) -> bytes:
        """The stored JPEG of `length` bytes (blocks). Raises FrameGoneError, FrameDamagedError."""
        try:
            return read_jpeg(self.pack_path(video_id, pack), offset, length)
        except PackError as error:
            cause = error.__cause__
            if isinstance(cause, FileNotFoundError):
                raise FrameGoneError(str(error)) from error
            if isinstance(cause, OSError):
                raise cause from error
            raise FrameDamagedError(str(error)) from error

    async def remove_source(self, video_id: str, location: str) -> int:
        """Remove what was fetched or uploaded for the video, never a file outside the data directory."""
        return await asyncio.to_thread(self._remove_source, video_id, Path(location))

    async def remove_sources_but(
        self, video_ids: Set[str], locations: Set[str], *, untouched_for: float
    ) -> int:
        """Remove fetched and uploaded files but those of `video_ids` and at `locations`, where they were not written to
        for so many seconds; bytes freed."""
        return await asyncio.to_thread(self._remove_sources_but, video_ids, locations, untouched_for)

    async def remove_video(self, video_id: str) -> int:
        """Remove the video's folders; bytes freed, its analytics files not counted (see `Storage`)."""

        def remove() -> int:
            _remove_tree(self._analytics / plain_name(video_id))
            return _remove_tree(self._folder(video_id))

        return await asyncio.to_thread(remove)

    async def analytics_bytes(self, video_id: str) -> int:
        """What the video's analytics files take."""
        return await asyncio.to_thread(_tree_size, self._analytics / plain_name(video_id))

    async def remove_segments(self, video_id: str, segments: Set[int]) -> int:
        """Remove frame packs and analytics files of these segments, and the annotated videos; bytes freed, analytics
        files not counted."""

        def remove() -> int:
            for path in self._analytics_of(video_id, segments):
                _remove_file(path)
            freed = sum(map(_remove_file, _named_after(self._packs(video_id), segments)))
            return freed + _remove_tree(self.annotated_folder(video_id))

        return await asyncio.to_thread(remove)

    async def measure_segments(self, video_id: str, segments: Set[int]) -> int:
        """How many bytes `remove_segments` would free, analytics files of single segments counted."""

        def measure() -> int:
            files = [*_named_after(self._packs(video_id), segments), *self._analytics_of(video_id, segments)]
            return sum(map(_size, files)) + _tree_size(self.annotated_folder(video_id))

        return await asyncio.to_thread(measure)

    async def measure_video(self, video_id: str, location: str) -> int:
        """How many bytes `remove_video` and `remove_source` would free, all analytics files counted."""

        def measure() -> int:
            uploaded = Path(location) if Path(location).parent == self.uploads else None
            return sum(map(_tree_size, self._folders(video_id))) + (_size(uploaded) if uploaded else 0)

        return await asyncio.to_thread(measure)

    def _folders(self, video_id: str) -> list[Path]:
        return [self._folder(video_id), self._analytics / plain_name(video_id)]

    def annotated_folder(self, video_id: str) -> Path:
        return self._folder(video_id) / "annotated"

    def _analytics_of(self, video_id: str, segments: Set[int]) -> Iterator[Path]:
        """Analytics files of single segments: like packs, their names begin with the segment's number."""
        for run in _entries(self._analytics / plain_name(video_id)):
            if run.is_dir():
                yield from _named_after(Path(run.path), segments)

    def _folder(self, video_id: str) -> Path:
        return self._videos / plain_name(video_id)

    def _packs(self, video_id: str) -> Path:
        return self._folder(video_id) / "packs"

    def _remove_source(self, video_id: str, location: Path) -> int:
        folder = self._folder(video_id)
        files = list(folder.glob("source*")) if folder.is_dir() else []
        if location.parent == self.uploads:
            files.append(location)
        return sum(map(_remove_file, files))

    def _remove_sources_but(self, video_ids: Set[str], locations: Set[str], untouched_for: float) -> int:
        fetched = [path for path in self._videos.glob("*/source*") if path.parent.name not in video_ids]
        uploaded = [path for path in self.uploads.iterdir() if str(path) not in locations]
        return sum(_remove_file(path) for path in [*fetched, *uploaded] if is_untouched(path, untouched_for))


class _KeptSnapshot(msgspec.Struct, frozen=True):
    store: str
    snapshot: Snapshot


class SnapshotFile:
    """The `Snapshots` port: one JSON file, replaced whole. It is of the event store called `store_identity`."""

    def __init__(self, folder: Path, store_identity: str) -> None:
        self._store_identity = store_identity
        self._path = folder / "process-manager.json"

    async def load(self) -> Snapshot:
        return await asyncio.to_thread(self._read)

    async def save(self, snapshot: Snapshot) -> None:
        await asyncio.to_thread(self._write, snapshot)

    def _read(self) -> Snapshot:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_KeptSnapshot)
        except (FileNotFoundError, msgspec.DecodeError):
            return Snapshot()
        return kept.snapshot if kept.store == self._store_identity else Snapshot()

    def _write(self, snapshot: Snapshot) -> None:
        """A torn or lost file does no harm, so it is not synced."""
        part = self._path.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(_KeptSnapshot(self._store_identity, snapshot)))
            part.replace(self._path)
        except OSError as error:
            logger.warning("the process manager's snapshot could not be kept: %s", error)


class RetentionFile:
    """The `Reports` port: one JSON file, replaced whole; it can be lost."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "retention.json"

    async def load(self) -> RetentionReport | None:
        return await asyncio.to_thread(self._read)

    async def save(self, report: RetentionReport) -> None:
        await asyncio.to_thread(self._write, msgspec.json.encode(report))

    def _read(self) -> RetentionReport | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=RetentionReport)
        except (OSError, msgspec.DecodeError):
            return None

    def _write(self, text: bytes) -> None:
        part = self._path.with_suffix(".part")
        try:
            part.write_bytes(text)
            part.replace(self._path)
        except OSError as error:
            logger.warning("the report of the retention could not be kept: %s", error)


def plain_name(name: str) -> str:
    """A name that stays in its folder. Raises ValueError for any other."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _named_after(folder: Path, segments: Set[int]) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _segment_of(entry.name) in segments]


def _segment_of(name: str) -> int | None:
    """The number that the file's name begins with."""
    number = _SEGMENT.match(name)
    return int(number[0]) if number else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def is_untouched(path: Path, seconds: float) -> bool:
    """Whether nobody has written to the file for so long, or it is gone."""
    try:
        return seconds <= 0 or path.stat().st_mtime <= time.time() - seconds
    except FileNotFoundError:
        return True


def _remove_file(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _remove_tree(folder: Path) -> int:
    """Others may add and remove files there meanwhile: the projection of the analytics files does."""
    size = _tree_size(folder)
    for attempt in range(_REMOVALS):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if not folder.is_dir():
                break
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or attempt == _REMOVALS - 1:
                raise
        else:
            break
    return size


def _tree_size(folder: Path) -> int:
    return sum(_size(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)
