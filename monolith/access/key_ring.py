"""The keys of a running server: read from their file, looked at again several times a second."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from monolith.access.key_file import KeyFile, KeyFileError
from monolith.access.keys import CredentialError, KeyRecord, new_key, parse_key
from monolith.access.scopes import Scope

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.3
_NOBODY: Final = KeyRecord(
    key_id="", name="", scopes=(), digest="0" * 64, created=datetime.min.replace(tzinfo=UTC)
)
"""What an unknown id is compared with, so that it takes as long as a known one."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: a key. `local`: the command line of this machine."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    local: bool = False


class _Version(NamedTuple):
    """Changes with every change of the file; it is replaced, so its inode changes, too."""

    inode: int
    modified: int
    size: int
    mode: int


def _utc_now() -> datetime:
    return datetime.now(UTC)


class KeyRing:
    """`load` first; then run `watch` as one task."""

    def __init__(self, file: KeyFile, now: Callable[[], datetime] = _utc_now) -> None:
        self.file = file
        self._now = now
        self._records: dict[str, KeyRecord] = {}
        self._version: _Version | None = None
        self._local: KeyRecord | None = None

    async def load(self) -> None:
        """Raises KeyFileError."""
        self._version, records = await asyncio.to_thread(self._read)
        self._records = {record.key_id: record for record in records}

    async def watch(self) -> None:
        """Take over what changes, until cancelled. A file that cannot be read leaves the keys as they are."""
        complaint = ""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self._look) != self._version:
                    await self.load()
                    logger.info("the API keys have changed: %d are valid", self.valid)
                complaint = ""
            except KeyFileError as error:
                if str(error) != complaint:
                    logger.error("%s; the keys stay as they were", error)
                complaint = str(error)

    @property
    def valid(self) -> int:
        """How many keys let someone in now."""
        now = self._now()
        return sum(record.trouble(now) is None for record in self._records.values())

    def issue_local(self) -> str:
        """A key for the command line of this machine; it ends with this process, or with the next call."""
        key = new_key()
        presented = parse_key(key)
        self._local = KeyRecord(
            key_id=presented.key_id,
            name="this machine",
            scopes=(Scope.ADMIN,),
            digest=presented.digest,
            created=self._now(),
        )
        return key

    def identify(self, text: str) -> Identity:
        """Who sends this key. Raises CredentialError."""
        presented = parse_key(text)
        record = self._record(presented.key_id)
        if not record.matches(presented):
            raise CredentialError(
                "this API key is not known here; `video-analysis keys list` shows those that are"
            )
        return self._admitted(record)

    def by_id(self, key_id: str) -> Identity:
        """Who has the key with this id, if it still lets someone in. Raises CredentialError."""
        record = self._record(key_id)
        if record is _NOBODY:
            raise CredentialError("this API key is not known here any more")
        return self._admitted(record)

    def _record(self, key_id: str) -> KeyRecord:
        if self._local is not None and self._local.key_id == key_id:
            return self._local
        return self._records.get(key_id, _NOBODY)

    def _admitted(self, record: KeyRecord) -> Identity:
        trouble = record.trouble(self._now())
        if trouble is not None:
            raise CredentialError(trouble)
        return Identity(
            key_id=record.key_id, name=record.name, scopes=record.scopes, local=record is self._local
        )

    def _read(self) -> tuple[_Version | None, tuple[KeyRecord, ...]]:
        """The version is taken first: a change in between is seen at the next look."""
        return self._look(), self.file.load()

    def _look(self) -> _Version | None:
        try:
            found = os.stat(self.file.path)  # noqa: PTH116
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyFileError(
                f"the API keys in {self.file.path} cannot be read: {error.strerror}"
            ) from error
        return _Version(found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)
