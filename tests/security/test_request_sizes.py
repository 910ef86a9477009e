"""No part of a request may grow without end: each has a bound, and who exceeds it is told so or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from monolith.api.services import Limits
from tests.integration.test_api import START, problem
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import OBJECTS

FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, limits=Limits(json_bytes=10_000, upload_bytes=1 << 20)) as running:
        yield running


async def sent(api: Api, head: bytes) -> bytes:
    """The status line that answers these bytes; nothing where the connection was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    try:
        writer.write(head)
        async with asyncio.timeout(60):
            return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def part(name: str, value: bytes, more: bytes = b"") -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="'
        + name.encode()
        + b'"'
        + more
        + b"\r\n\r\n"
        + value
        + b"\r\n"
    )


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?q=" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (1 << 20) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A" * (1 << 20) + b": b\r\n\r\n",
        b"G" * (1 << 20),
    ],
    ids=["path", "query", "header", "headers", "header's name", "method"],
)
async def test_what_comes_before_a_body_is_bounded(api: Api, head: bytes) -> None:
    assert b" 200 " not in await sent(api, head)
    assert (await api.get("/health/live")).status_code == 200


async def test_json_is_bounded(api: Api) -> None:
    body = {**START, "videoName": "x" * 20_000}
    assert (
        "larger than 10000 bytes"
        in problem(await api.client.post("/analysis/start", json=body), 413)["detail"]
    )


async def test_json_of_unknown_length_is_bounded(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    problem(await api.client.post("/analysis/start", content=body()), 413)


async def test_json_may_not_be_nested_without_end(api: Api) -> None:
    problem(await api.client.post("/analysis/start", content=b"[" * 9_000), 400)


async def uploaded(api: Api, body: bytes) -> httpx.Response:
    return await api.client.post("/analysis/upload", content=body + b"--b--\r\n", headers=FORM)


async def test_an_upload_is_bounded(api: Api) -> None:
    file = part("file", bytes(2 << 20), b'; filename="a.mp4"')
    problem(await uploaded(api, file), 413)
    assert list(api.services.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (part("videoName", b"x" * 100_000), "videoName is longer than 65536 bytes"),
        (b"".join(part(f"field{number}", b"x") for number in range(60)), "more than 50 parts"),
        (part("x", b"", b"; y=" + b"z" * 500_000), "no sound multipart"),
        (part("x", b"", b"\r\nA: b" * 1000), "no sound multipart"),
    ],
    ids=["field", "fields", "header of a part", "headers of a part"],
)
async def test_parts_of_a_form_are_bounded(api: Api, body: bytes, text: str) -> None:
    file = part("file", bytes(100), b'; filename="a.mp4"')
    assert text in problem(await uploaded(api, body + file), 400)["detail"]
    assert list(api.services.uploads.iterdir()) == []


async def test_names_are_bounded(api: Api) -> None:
    fields = {"modelsToRun": OBJECTS, "videoName": "x" * 1000}
    files = {"file": ("a.mp4", b"x" * 100)}
    assert (
        problem(await api.client.post("/analysis/upload", data=fields, files=files), 400)["field"]
        == "videoName"
    )
    key = {"Idempotency-Key": "k" * 300}
    problem(await api.client.post("/analysis/start", json=START, headers=key), 400)
