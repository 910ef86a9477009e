"""`multipart/form-data` with one large file, straight to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Lock
from typing import Final
from uuid import uuid4

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from eventsourcing.errors import StoreUnavailableError
from monolith.api.problems import ApiError
from monolith.domain.errors import InvalidRequestError
from monolith.frames.pack import sync_folder

_MAX_FIELDS: Final = 50
_MAX_FIELD_BYTES: Final = 64 * 1024
_WRITE_BYTES: Final = 1 << 20
_FILE_FIELD: Final = "file"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class UploadForm(msgspec.Struct):
    """`path`: where the file lies, synced; `digest`: of its bytes; `fields`: the other parts as text, in order, repeats
    kept."""

    path: Path
    digest: str = ""
    file_name: str = ""
    file_parts: int = 0
    size: int = 0
    fields: dict[str, list[str]] = {}

    def text(self, name: str) -> str | None:
        """The last part called `name`."""
        values = self.fields.get(name)
        return values[-1] if values else None

    def names(self, name: str) -> list[object] | str | None:
        """A list from repeated parts, from one JSON list, or from one text with commas."""
        values = self.fields.get(name)
        if values is None:
            return None
        if len(values) == 1 and values[0].lstrip().startswith("["):
            return _json_list(name, values[0])
        return [part.strip() for value in values for part in value.split(",")]


def _json_list(name: str, text: str) -> list[object]:
    try:
        return msgspec.json.decode(text, type=list[object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"{name} begins like a JSON list but is none: {error}", field=name
        ) from error


_NO_ROOM: Final = (
    "the disk is full: less would be free than VIDEO_ANALYSIS_MIN_FREE_BYTES wants kept free; remove videos, or make"
    " room"
)


def no_room(reason: str = _NO_ROOM) -> ApiError:
    return ApiError(
        507,
        reason,
        kind="no-room",
        headers={"Connection": "close"},
    )


async def receive_upload(
    content_type: str,
    chunks: AsyncIterator[bytes],
    folder: Path,
    room_bytes: Callable[[], int],
    *,
    keep: bool = True,
) -> UploadForm:
    """Store the part `file` in a new file in `folder`, synced; the caller owns it. On any error it is removed. Without
    `keep` nothing is stored: only its digest is taken, and there is nothing at `path`.

    `room_bytes` (called in a thread) says how much may still be written. Raises InvalidRequestError, ApiError (507: no
    room), StoreUnavailableError (the disk fails), and what `chunks` raises.
    """
    boundary = _boundary(content_type)
    path = folder / f"{uuid4()}.upload"
    try:
        file = await asyncio.to_thread(_UploadFile, path, room_bytes) if keep else _DigestOnly()
    except OSError as error:
        raise _translated(error) from error
    try:
        receiver = _Receiver(boundary, path)
        async for chunk in chunks:
            receiver.feed(chunk)
            if receiver.buffered >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, receiver.take())
        receiver.finish()
        receiver.form.digest = await asyncio.to_thread(file.finish, receiver.take())
    except BaseException as error:
        await asyncio.shield(asyncio.to_thread(file.discard))
        if isinstance(error, OSError):
            raise _translated(error) from error
        raise
    return receiver.form


def _translated(error: OSError) -> Exception:
    if error.errno in _FULL:
        return no_room()
    return StoreUnavailableError(f"the upload cannot be stored: {error.strerror}")


class _DigestOnly:
    """What `_UploadFile` is to its caller, without the file."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._hash.update(data)

    def finish(self, rest: bytes) -> str:
        self.write(rest)
        return f"sha256:{self._hash.hexdigest()}"

    def discard(self) -> None:
        pass


class _UploadFile:
    """The file on the disk. Methods block and raise OSError; one at a time."""

    def __init__(self, path: Path, room_bytes: Callable[[], int]) -> None:
        self._path = path
        self._room_bytes = room_bytes
        self._hash = hashlib.sha256()
        self._lock = Lock()
        self._file = path.open("xb")

    def write(self, data: bytes) -> None:
        """Raises ApiError where there is no room for it."""
        with self._lock:
            if self._room_bytes() < len(data):
                raise no_room()
            self._file.write(data)
            self._hash.update(data)

    def finish(self, rest: bytes) -> str:
        """The digest of all. The file and its name survive a power cut from here on."""
        self.write(rest)
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._path.parent)
        return f"sha256:{self._hash.hexdigest()}"

    def discard(self) -> None:
        """After a write that a cancelled caller has left running."""
        with self._lock:
            with contextlib.suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind.lower() != b"multipart/form-data" or not boundary:
        raise InvalidRequestError(
            "the body must be multipart/form-data with a boundary and a part named 'file'"
        )
    return boundary


class _Receiver:
    """Feeds the parser; keeps fields whole and the file's bytes until they are taken."""

    def __init__(self, boundary: bytes, path: Path) -> None:
        self.form = UploadForm(path)
        self._file = bytearray()
        self._field = bytearray()
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._name = ""
        self._parts = 0
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise InvalidRequestError(f"the body is no sound multipart/form-data: {error}") from error

    @property
    def buffered(self) -> int:
        return len(self._file)

    def take(self) -> bytes:
        taken, self._file = bytes(self._file), bytearray()
        return taken

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequestError(f"the body is no sound multipart/form-data: {error}") from error

    def finish(self) -> None:
        if not self._complete:
            raise InvalidRequestError("the body ends before its closing boundary")
        if self.form.file_parts != 1 or not self.form.size:
            raise InvalidRequestError(
                "the form needs exactly one part 'file' with a video in it", field=_FILE_FIELD
            )

    def _part_begin(self) -> None:
        self._parts += 1
        self._disposition = b""
        self._field.clear()
        if self._parts > _MAX_FIELDS:
            raise InvalidRequestError(f"the form has more than {_MAX_FIELDS} parts")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise InvalidRequestError("a part of the form has no name")
        self._name = options[b"name"].decode(errors="replace")
        if self._name == _FILE_FIELD:
            self.form.file_parts += 1
            self.form.file_name = options.get(b"filename", b"").decode(errors="replace")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == _FILE_FIELD:
            self._file += data[start:end]
            self.form.size += end - start
            return
        self._field += data[start:end]
        if len(self._field) > _MAX_FIELD_BYTES:
            raise InvalidRequestError(
                f"{self._name} is longer than {_MAX_FIELD_BYTES} bytes", field=self._name
            )

    def _part_end(self) -> None:
        if self._name != _FILE_FIELD:
            text = self._field.decode(errors="replace")
            self.form.fields.setdefault(self._name, []).append(text)

    def _end(self) -> None:
        self._complete = True
