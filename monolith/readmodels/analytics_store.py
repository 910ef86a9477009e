"""The folder of analytics files with its index: adding, putting together, removing. All of it blocks: for threads."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from eventsourcing.errors import StoreUnavailableError
from monolith.frames.pack import sync_folder
from monolith.readmodels.analytics_files import (
    GROUP_ROWS,
    GROUPS,
    edition_of,
    file_of,
    group_file_of,
    write_lines,
    write_table,
)
from monolith.readmodels.analytics_index import AnalyticsIndex, IndexedSegment
from monolith.readmodels.files import Origin

INDEX: Final = "index.db"

logger = logging.getLogger(__name__)


class Pins:
    """Keeps files that are to go until nobody reads any more who may have seen their names. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._readers: Counter[int] = Counter()
        self._doomed: list[tuple[int, Path]] = []

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Files that are named now stay until the end of this context; leaving it may remove some."""
        with self._lock:
            began = self._now
            self._readers[began] += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers[began] -= 1
                self._readers += Counter()  # drops zeros
            self._remove()

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files that nothing names any more: now, or when the last reader is through."""
        with self._lock:
            self._doomed += [(self._now, path) for path in paths]
            self._now += 1
        self._remove()

    def forget(self) -> None:
        """What was to go has gone with its folder; in another folder that takes its place the same names are others."""
        with self._lock:
            self._doomed.clear()

    def _remove(self) -> None:
        with self._lock:
            oldest = min(self._readers, default=self._now)
            free = [path for since, path in self._doomed if since < oldest]
            self._doomed = [(since, path) for since, path in self._doomed if since >= oldest]
        for path in free:
            path.unlink(missing_ok=True)


class AnalyticsStore:
    """Files and index under `root`. One thread writes; any thread may read. Raises OSError, StoreUnavailableError."""

    def __init__(self, root: Path, pins: Pins) -> None:
        """Open or make it."""
        self.root = root
        self._pins = pins
        root.mkdir(parents=True, exist_ok=True)
        self.index = AnalyticsIndex(root / INDEX)

    @classmethod
    def open(cls, root: Path, pins: Pins, origin: Origin | None) -> AnalyticsStore:
        """Files of another version, from another store, or damaged ones are thrown away; their checkpoint is None."""
        flaw = _flaw(root, pins, origin)
        if flaw is not None:
            logger.warning("the analytics files at %s %s and will be made again", root, flaw)
            shutil.rmtree(root)
        store = cls(root, pins)
        if origin is not None:
            with store.index.change() as change:
                change.remember_store(origin.identity)
        store.sweep()
        return store

    def close(self) -> None:
        self.index.close()

    def path(self, segment: IndexedSegment) -> Path:
        """Where a segment's lines lie. `segment.file` is not None."""
        assert segment.file is not None
        return self.root / segment.video_id / segment.run_id / segment.file

    def add(self, segment: IndexedSegment, table: pl.DataFrame | None) -> None:
        """Write the file of a closed segment (None: its results are gone) and name it. Repeating it changes nothing."""
        if not self.index.group_of(segment.run_id, segment.segment, segment.segment):
            if table is None:
                segment = msgspec.structs.replace(segment, file=None)
            else:
                write_table(self.path(segment), table)
            with self.index.change() as change:
                change.add([segment])
        for size in GROUPS:
            self._put_together(segment, size)

    def expire(self, video_id: str, numbers: Sequence[int]) -> None:
        """Let segments of a video go, in all its runs."""
        gone = [found for found in self.index.segments_at(video_id, numbers) if found.file is not None]
        for (run_id, file), members in groupby(gone, key=lambda found: (found.run_id, found.file)):
            assert file is not None
            self._remove_from(run_id, file, list(members))

    def _remove_from(self, run_id: str, file: str, gone: list[IndexedSegment]) -> None:
        old = self.path(gone[0])
        numbers = {segment.segment for segment in gone}
        mates = self.index.segments_of(run_id) if "-" in file else gone
        left = [mate for mate in mates if mate.file == file and mate.segment not in numbers]
        rewritten = self._rewrite(old, left) if left else None
        with self.index.change() as change:
            change.move(gone, None)
            change.move(left, rewritten)
        self._pins.remove([old])

    def _rewrite(self, old: Path, left: list[IndexedSegment]) -> str | None:
        """A file with the lines of `left` alone; its name. None: `old` went with all of its video; the events that say
        so come."""
        name = group_file_of(left[0].segment, left[-1].segment, edition_of(old.name) + 1)
        numbers = [mate.segment for mate in left]
        if not old.exists():
            return None
        try:
            write_lines(old.with_name(name), pl.scan_parquet(old).filter(pl.col("segment").is_in(numbers)))
        except FileNotFoundError:
            return None
        return name

    def forget(self, video_id: str) -> None:
        """Remove all about a deleted video."""
        with self.index.change() as change:
            change.forget_video(video_id)
        folder = self.root / video_id
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)

    def _put_together(self, segment: IndexedSegment, size: int) -> None:
        """Make one file of its group of `size`, if all of it is there and small."""
        first = segment.segment // size * size
        group = self.index.group_of(segment.run_id, first, first + size - 1)
        held = [member for member in group if member.file is not None]
        paths = list(dict.fromkeys(map(self.path, held)))
        if len(group) < size or len(paths) < 2 or sum(member.rows for member in held) > GROUP_ROWS:
            return
        name = group_file_of(held[0].segment, held[-1].segment)
        try:
            write_lines(paths[0].with_name(name), pl.scan_parquet(paths))
        except FileNotFoundError:
            return  # expired just now; the event that says so comes
        with self.index.change() as change:
            change.move(held, name)
        self._pins.remove(paths)

    def sweep(self) -> None:
        """Remove what an interruption has left: files that the index does not name."""
        named = {self.root / video / run / file for video, run, file in self.index.files()}
        for path in self.root.glob("*/*/*"):
            if path not in named:
                path.unlink(missing_ok=True)


def beside(root: Path) -> Path:
    """Where the files are made again."""
    return root.with_name(f"{root.name}-rebuild")


def _complete(root: Path) -> Path:
    """The name of what `beside` holds once nothing is missing."""
    return root.with_name(f"{root.name}-rebuilt")


def exchange_folders(root: Path) -> None:
    """Put what lies beside `root`, complete and closed, in its place."""
    sync_folder(beside(root))
    beside(root).rename(_complete(root))
    finish_exchange(root)


def finish_exchange(root: Path) -> None:
    """Do what is left of an exchange that was begun; remove what was interrupted before. Nobody has `root` open."""
    old = root.with_name(f"{root.name}-old")
    if _complete(root).is_dir():
        shutil.rmtree(old, ignore_errors=True)
        if root.is_dir():
            root.rename(old)
        _complete(root).rename(root)
        sync_folder(root.parent)
    for left in (old, beside(root)):
        shutil.rmtree(left, ignore_errors=True)


def _flaw(root: Path, pins: Pins, origin: Origin | None) -> str | None:
    """Why what lies at `root` cannot be used."""
    try:
        store = AnalyticsStore(root, pins)
        try:
            return store.index.flaw(origin)
        finally:
            store.close()
    except StoreUnavailableError as error:
        return f"are damaged ({error})"


def indexed(
    table: pl.DataFrame, *, video_id: str, run_id: str, segment: int, commit_position: int
) -> IndexedSegment:
    """What the index says of a segment with these lines."""
    frames, times = table["frame_number"], table["exact_timestamp"]
    return IndexedSegment(
        run_id=run_id,
        segment=segment,
        video_id=video_id,
        commit_position=commit_position,
        first_frame=frames.min(),  # type: ignore[arg-type]
        last_frame=frames.max(),  # type: ignore[arg-type]
        first_time=times.min(),  # type: ignore[arg-type]
        last_time=times.max(),  # type: ignore[arg-type]
        rows=table.height,
        file=file_of(segment),
    )
