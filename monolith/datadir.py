"""One process owns a data directory: a lock that the kernel drops with its holder, and a file that tells who holds it.

The holder's URL is in the file, so that the command line can work through the server that runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final

import msgspec

_LOCK_FILE: Final = "video-analysis.lock"
_PATIENCE: Final = 0.5
"""Seconds in which a lock that another process only looks at, or has just taken, is tried or read again."""
_PAUSE: Final = 0.02


class DataDirError(Exception):
    """The data directory cannot be used; the text says why and what would help."""


class DataDirHeldError(DataDirError):
    """Another process owns it."""

    def __init__(self, path: Path, holder: Holder) -> None:
        where = f" and serves {holder.url}" if holder.url else ""
        super().__init__(
            f"the data directory {path} is in use: process {holder.pid} holds it{where}; "
            f"stop that process, or use another directory (VIDEO_ANALYSIS_DATA_DIR)"
        )
        self.holder = holder


class Holder(msgspec.Struct, frozen=True):
    """Who owns a data directory. `url`: where its server answers, "" while it serves nothing."""

    pid: int
    url: str


_UNKNOWN: Final = Holder(0, "")


class DataDirLock:
    """The ownership of a data directory, from `acquire` to `release` (or the end of the process)."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, url: str = "") -> DataDirLock:
        """Make the folder where it is missing (mode 0700) and own it. Blocks at most for a blink.

        Raises DataDirHeldError, DataDirError.
        """
        _make(path)
        descriptor = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            if not _try_lock(descriptor, fcntl.LOCK_EX):
                raise DataDirHeldError(path, _read(descriptor) or _UNKNOWN)
            lock = cls(path, descriptor)
            lock.announce(url)
        except BaseException:
            os.close(descriptor)
            raise
        return lock

    def announce(self, url: str) -> None:
        """Tell others where the server answers."""
        assert self._descriptor is not None
        content = msgspec.json.encode(Holder(os.getpid(), url)) + b"\n"
        try:
            os.pwrite(self._descriptor, content, 0)
            os.ftruncate(self._descriptor, len(content))
        except OSError as error:
            raise DataDirError(
                f"the data directory {self.path} cannot be written: {error.strerror}"
            ) from error

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)

    def __enter__(self) -> DataDirLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def held_by(path: Path) -> Holder | None:
    """Who owns the data directory now; None: no one. `Holder(0, "")`: someone who has not told yet.

    Raises DataDirError where the lock cannot be looked at.
    """
    if not (path / _LOCK_FILE).exists():
        return None
    descriptor = _open(path, os.O_RDONLY)
    try:
        if _try_lock(descriptor, fcntl.LOCK_SH, patience=0):
            return None
        return _read(descriptor) or _UNKNOWN
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataDirError(f"the data directory {path} is not a folder; name another one") from error
    except OSError as error:
        raise DataDirError(
            f"the data directory {path} cannot be made: {error.strerror}; "
            f"make it yourself, or name another one (VIDEO_ANALYSIS_DATA_DIR)"
        ) from error


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path / _LOCK_FILE, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirError(
            f"the data directory {path} cannot be used: {error.strerror}; give this user the right to write there, "
            f"or name another one (VIDEO_ANALYSIS_DATA_DIR)"
        ) from error


def _try_lock(descriptor: int, kind: int, patience: float = _PATIENCE) -> bool:
    """`patience`: `held_by` of another process holds the lock for a moment, too."""
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(_PAUSE)
        else:
            return True


def _read(descriptor: int) -> Holder | None:
    """What the holder has written; a new holder gets a moment to write it."""
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
        time.sleep(_PAUSE)
    return None
