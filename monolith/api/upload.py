"""`multipart/form-data` with one large file, straight to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

import msgspec
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from eventsourcing.errors import StoreUnavailableError
from monolith.domain.errors import InvalidRequestError

_MAX_FIELDS: Final = 50
_MAX_FIELD_BYTES: Final = 64 * 1024
_WRITE_BYTES: Final = 1 << 20
_FILE_FIELD: Final = "file"


class UploadForm(msgspec.Struct):
    """`path`: where the file lies, synced; `fields`: the other parts as text, in order, repeats kept."""

    path: Path
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


async def receive_upload(content_type: str, chunks: AsyncIterator[bytes], folder: Path) -> UploadForm:
    """Store the part `file` in a new file in `folder`, synced; the caller owns it. On any error it is removed.

    Raises InvalidRequestError, StoreUnavailableError (disk full), and what `chunks` raises.
    """
    boundary = _boundary(content_type)
    path = folder / f"{uuid4()}.upload"
    file = await asyncio.to_thread(path.open, "xb")
    try:
        receiver = _Receiver(boundary, path)
        async for chunk in chunks:
            receiver.feed(chunk)
            if receiver.buffered >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, receiver.take())
        receiver.finish()
        await asyncio.to_thread(_finish, file, receiver.take(), folder)
    except BaseException as error:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.close()
        if isinstance(error, OSError):
            raise StoreUnavailableError(f"the upload cannot be stored: {error.strerror}") from error
        raise
    return receiver.form


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind.lower() != b"multipart/form-data" or not boundary:
        raise InvalidRequestError(
            "the body must be multipart/form-data with a boundary and a part named 'file'"
        )
    return boundary


def _finish(file: BinaryIO, rest: bytes, folder: Path) -> None:
    """The file and its name survive a power cut from here on."""
    with file:
        file.write(rest)
        file.flush()
        os.fsync(file.fileno())
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        except MultipartParseError as error:
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
        except MultipartParseError as error:
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
