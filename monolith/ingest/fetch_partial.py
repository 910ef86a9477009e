"""A download on its way to its final file: the bytes so far and, beside them, what they belong to.

`TARGET.part` holds the bytes, `TARGET.part.json` says whose they are; both survive the death of the process, so that
the next one goes on. All methods block: call them in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from monolith.frames.pack import sync_folder

_SPACE_CHECK_BYTES: Final = 64 * 2**20


class DiskFullError(Exception):
    """Writing on would use up the disk space that is to stay free."""


class PartialState(msgspec.Struct, frozen=True):
    """`url_digest`: sha256 of the URL (which may hold a password). `validator`: a strong ETag or a Last-Modified
    date by which the server knows this version of the file. `total`: its bytes, None where unknown."""

    url_digest: str
    validator: str
    total: int | None


class PartialFile:
    """The unfinished download of `url` to `target`. One user at a time."""

    def __init__(self, target: Path, url: str, min_free_bytes: int) -> None:
        self._target = target
        self._part = target.with_name(target.name + ".part")
        self._sidecar = target.with_name(target.name + ".part.json")
        self._url_digest = hashlib.sha256(url.encode()).hexdigest()
        self._min_free_bytes = min_free_bytes
        self._unchecked = 0
        self._file: BinaryIO | None = None
        self.size = 0
        self.state: PartialState | None = None

    def load(self) -> None:
        """Look for what an earlier attempt left of the same URL."""
        self.state = None
        with contextlib.suppress(OSError, msgspec.DecodeError):
            state = msgspec.json.decode(self._sidecar.read_bytes(), type=PartialState)
            if state.url_digest == self._url_digest:
                self.size = self._part.stat().st_size
                self.state = state

    @property
    def resume_at(self) -> int:
        """Where to go on, in bytes; 0: from the start. A whole download asks for its last byte again, which proves
        that the file has not changed."""
        if self.state is None:
            return 0
        return self.size if self.state.total is None else max(0, min(self.size, self.state.total - 1))

    def begin(self, validator: str | None, total: int | None) -> None:
        """Start anew; without a validator nothing of it can be resumed. Raises DiskFullError, OSError."""
        self.close()
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._sidecar.unlink(missing_ok=True)
        self.state = PartialState(self._url_digest, validator, total) if validator else None
        self._open(0)
        if self.state is not None:
            self._sidecar.write_bytes(msgspec.json.encode(self.state))
        self.require_space(total or 0)

    def go_on(self, at: int) -> None:
        """Continue after the first `at` bytes. Raises DiskFullError, OSError."""
        self.close()
        self._open(at)
        assert self.state is not None
        self.require_space((self.state.total or at) - at)

    def _open(self, at: int) -> None:
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, at)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._file.seek(at)
        self.size = at

    def write(self, data: bytes) -> None:
        """Append. Raises DiskFullError, OSError."""
        assert self._file is not None
        self._unchecked += len(data)
        if self._unchecked >= _SPACE_CHECK_BYTES:
            self._unchecked = 0
            self.require_space(len(data))
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self.size += written
            view = view[written:]

    def require_space(self, more: int) -> None:
        """Raises DiskFullError where `more` bytes would not leave enough free."""
        free = shutil.disk_usage(self._target.parent).free
        if free - more < self._min_free_bytes:
            raise DiskFullError(
                f"the disk has {free} bytes free; {more} more would leave less than "
                f"VIDEO_ANALYSIS_MIN_FREE_BYTES ({self._min_free_bytes})"
            )

    def commit(self) -> None:
        """Everything is there: make it durable and give it its final name."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        self.close()
        self._part.replace(self._target)
        sync_folder(self._target.parent)
        self._sidecar.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep what is there for another attempt. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Remove what is there."""
        self.close()
        self._part.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)
        self.state = None
