"""The file of API keys: JSON, hashes only, mode 0600, replaced as a whole under a lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from monolith.access.errors import AccessError
from monolith.access.keys import KeyRecord, is_key_id, new_key, parse_key
from monolith.access.scopes import Scope, ordered
from monolith.frames.pack import sync_folder

MOST_KEYS: Final = 10_000
_MOST_BYTES: Final = 16 << 20
_LOCK_SECONDS: Final = 5.0
_PAUSE: Final = 0.02
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class KeyFileError(AccessError):
    """The keys cannot be read or changed; the text says why and what would help."""


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    keys: tuple[KeyRecord, ...] = ()


class KeyFile:
    """Safe to use from several processes at once. Methods block and raise KeyFileError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> tuple[KeyRecord, ...]:
        """All keys, revoked ones too, in the order of their creation; none where there is no file."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(f"the API keys in {self.path} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS_WRITE:
                raise KeyFileError(
                    f"{self.path} can be changed by other users; `chmod 600 {self.path}` mends that"
                )
            return _decoded(self.path, file.read(_MOST_BYTES))

    def add(self, name: str, scopes: tuple[Scope, ...], lifetime: timedelta | None) -> tuple[str, KeyRecord]:
        """Make a key that is valid for `lifetime` (None: until it is revoked): the key itself, and what is kept."""
        key = new_key()
        presented = parse_key(key)
        now = datetime.now(UTC).replace(microsecond=0)
        record = KeyRecord(
            key_id=presented.key_id,
            name=name,
            scopes=ordered(scopes),
            digest=presented.digest,
            created=now,
            expires=None if lifetime is None else now + lifetime,
        )
        with self._locked():
            records = self.load()
            if len(records) >= MOST_KEYS:
                raise KeyFileError(
                    f"{self.path} holds {len(records)} keys, more than anyone needs; begin a new file"
                )
            self._write((*records, record))
        return key, record

    def revoke(self, key_id: str) -> KeyRecord:
        """From now on the key lets nobody in; revoking it again changes nothing."""
        with self._locked():
            records = self.load()
            found = next((record for record in records if record.key_id == key_id), None)
            if found is None:
                shown = repr(key_id) if is_key_id(key_id) else "of this form"
                raise KeyFileError(
                    f"there is no key with the id {shown} in {self.path}; `video-analysis keys list` shows the ids"
                )
            if found.revoked is not None:
                return found
            ended = msgspec.structs.replace(found, revoked=datetime.now(UTC).replace(microsecond=0))
            self._write(tuple(ended if record is found else record for record in records))
        return ended

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time: a lock on the folder, since the file itself is replaced."""
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KeyFileError(f"the folder {folder} cannot be used: {error.strerror}") from error
        try:
            _lock(descriptor, folder)
            yield
        finally:
            os.close(descriptor)

    def _write(self, records: tuple[KeyRecord, ...]) -> None:
        path = self.path.resolve()
        part = path.with_name(f".{path.name}.{uuid4()}.part")
        body = msgspec.json.format(msgspec.json.encode(_Content(version=1, keys=records)), indent=2)
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise KeyFileError(f"the API keys in {path} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)


def _decoded(path: Path, body: bytes) -> tuple[KeyRecord, ...]:
    try:
        content = msgspec.json.decode(body, type=_Content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise KeyFileError(
            f"{path} does not hold API keys: {error}; put back a sound copy, or remove it"
        ) from error
    if content.version != 1:
        raise KeyFileError(f"{path} is of version {content.version}; this program reads version 1")
    return content.keys


def _lock(descriptor: int, folder: Path) -> None:
    give_up = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise KeyFileError(
                    f"another program keeps {folder} locked; try again when it has ended"
                ) from None
            time.sleep(_PAUSE)
        else:
            return
