"""A file as an answer, to clients that do not behave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from monolith.api.files import FileAnswer
from monolith.api.problems import ApiError

SIZE = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(bytes(SIZE))
    return path


def answer(path: Path, send_seconds: float = 5.0) -> FileAnswer:
    return FileAnswer(
        path, path.stat(), etag="tag", media_type="video/mp4", name="clip.mp4", send_seconds=send_seconds
    )


def scope(**headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "headers": pairs, "asgi": {"spec_version": "2.3"}}


async def no_disconnect() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def sent(path: Path, **headers: str) -> list[Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await answer(path)(scope(**headers), no_disconnect, send)
    return messages


async def test_it_comes_in_pieces(path: Path) -> None:
    start, *body = await sent(path)
    assert start["status"] == 200
    assert sum(len(message["body"]) for message in body) == SIZE
    assert max(len(message["body"]) for message in body) <= 256 * 1024


async def test_a_client_that_takes_nothing_is_cut_off(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await answer(path, send_seconds=0.05)(scope(), no_disconnect, send)
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]
    assert "took nothing of clip.mp4 for too long" in caplog.text


async def test_a_client_that_goes_away_ends_it(path: Path) -> None:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)
        await asyncio.sleep(0)

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    await answer(path)(scope(), gone, send)
    assert sum(len(message.get("body", b"")) for message in messages) < SIZE


@pytest.mark.parametrize(
    ("condition", "status"), [('"tag"', 304), ('W/"tag"', 304), ('"a", "tag"', 304), ("*", 304), ('"a"', 200)]
)
async def test_what_is_known_is_not_sent_again(path: Path, condition: str, status: int) -> None:
    start, *body = await sent(path, if_none_match=condition)
    assert start["status"] == status
    assert sum(len(message["body"]) for message in body) == (0 if status == 304 else SIZE)


@pytest.mark.parametrize("wrong", [f"bytes={SIZE}-", "bytes=5-1", "lines=1-2", "bytes="])
async def test_a_part_that_is_not_there_is_refused_with_the_size(path: Path, wrong: str) -> None:
    with pytest.raises(ApiError, match=f"the file has {SIZE} bytes") as caught:
        await sent(path, range=wrong)
    assert caught.value.status == 416
    assert caught.value.headers == {"Content-Range": f"bytes */{SIZE}"}
