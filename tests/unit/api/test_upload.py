"""Multipart bodies, whole and byte by byte."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monolith.api import upload
from monolith.api.problems import ApiError
from monolith.api.upload import receive_upload
from monolith.domain.errors import InvalidRequestError

CONTENT_TYPE = "multipart/form-data; boundary=edge"
BODY = (
    b'--edge\r\nContent-Disposition: form-data; name="frameStep"\r\n\r\n5\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n'
    b"Content-Type: video/mp4\r\n\r\n\r\n--edg\x00\r\n\r\n--edge\r\n"
    b'Content-Disposition: form-data; name="modelsToRun"\r\n\r\na, b\r\n--edge--\r\n'
)


def endless() -> int:
    """Room on the disk."""
    return 1 << 62


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_however_it_is_cut(tmp_path: Path, size: int) -> None:
    form = await receive_upload(CONTENT_TYPE, pieces(BODY, size), tmp_path, endless)
    assert form.path.read_bytes() == b"\r\n--edg\x00\r\n"
    assert (form.file_name, form.text("frameStep"), form.names("modelsToRun")) == ("a.mp4", "5", ["a", "b"])
    assert form.digest == f"sha256:{hashlib.sha256(form.path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("end", range(1, len(BODY) - 4, 11))
async def test_a_body_cut_short_is_refused_and_leaves_nothing(tmp_path: Path, end: int) -> None:
    with pytest.raises(InvalidRequestError):
        await receive_upload(CONTENT_TYPE, pieces(BODY[:end], 50), tmp_path, endless)
    assert list(tmp_path.iterdir()) == []


async def test_too_many_parts_and_too_long_fields(tmp_path: Path) -> None:
    part = b'--edge\r\nContent-Disposition: form-data; name="x"\r\n\r\n%b\r\n'
    for body in (part % b"" * 60, part % bytes(70_000)):
        with pytest.raises(InvalidRequestError, match=r"more than|longer than"):
            await receive_upload(CONTENT_TYPE, pieces(body, 1000), tmp_path, endless)


async def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(upload.os, "fsync", full)  # type: ignore[attr-defined]
    with pytest.raises(ApiError, match="disk is full") as caught:
        await receive_upload(CONTENT_TYPE, pieces(BODY, 100), tmp_path, endless)
    assert caught.value.status == 507
    assert list(tmp_path.iterdir()) == []


async def test_the_disk_is_watched_while_the_file_comes(tmp_path: Path) -> None:
    body = BODY.replace(b"\x00", bytes(3 << 20))
    rooms = iter([1 << 62, 1 << 20, 100, 100])
    with pytest.raises(ApiError) as caught:
        await receive_upload(CONTENT_TYPE, pieces(body, 700_000), tmp_path, lambda: next(rooms))
    assert caught.value.status == 507
    assert next(rooms) == 100, "it must stop at the first refusal"
    assert list(tmp_path.iterdir()) == []
