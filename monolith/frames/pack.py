"""Frame packs: the stored JPEGs of one segment, one after the other in one file (which plays as MJPEG)."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Final

_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"


class PackError(Exception):
    """A frame cannot be read from its pack: the file is gone, cut short, or damaged."""


class PackWriter:
    """Appends JPEGs to a pack. What was appended is on the disk after `sync`, not before.

    An existing file is continued at its end: what an earlier writer left keeps its offsets.
    """

    def __init__(self, path: Path) -> None:
        existed = path.exists()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.offset = os.fstat(self._file).st_size
        self._dirty = False
        if not existed:
            sync_folder(path.parent)

    def append(self, data: bytes) -> int:
        """The offset at which `data` lies. Raises OSError; a full disk leaves no half frame behind."""
        start = self.offset
        try:
            self._write_all(data)
        except OSError:
            os.ftruncate(self._file, start)
            self.offset = start
            raise
        self._dirty = True
        return start

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._file, rest)
            self.offset += written
            rest = rest[written:]

    def sync(self) -> None:
        """Bring everything appended to the disk (blocks)."""
        if self._dirty:
            os.fdatasync(self._file)  # the file's length goes with it
            self._dirty = False

    def close(self) -> None:
        """Sync and close. Idempotent."""
        if self._file >= 0:
            try:
                self.sync()
            finally:
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_jpeg(path: Path, offset: int, length: int) -> bytes:
    """The JPEG of `length` bytes at `offset`. Raises PackError, saying what is wrong with the pack."""
    try:
        with path.open("rb") as file:
            data = os.pread(file.fileno(), length, offset)
    except FileNotFoundError as error:
        raise PackError(f"frame pack {path.name} is gone") from error
    except (OSError, ValueError, OverflowError) as error:
        raise PackError(f"frame pack {path.name} cannot be read at {offset}: {error}") from error
    _check(path, offset, length, data)
    return data


def _check(path: Path, offset: int, length: int, data: bytes) -> None:
    where = f"frame pack {path.name} at {offset}"
    if len(data) < length:
        raise PackError(f"{where}: {length} bytes expected, {len(data)} there; the file was cut short")
    if not (data.startswith(_SOI) and data.endswith(_EOI)):
        raise PackError(f"{where}: no JPEG of {length} bytes lies there; the file is damaged")


def sync_folder(folder: Path) -> None:
    """Bring the entries of `folder` to the disk, so that a new or renamed file in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
