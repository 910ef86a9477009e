"""What the API refuses and survives: full disks, lost pictures, foreign pages, large answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from eventsourcing.codec import EventCodec
from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import RecordedEvent
from monolith.api.services import Limits
from monolith.application.handlers import SubmissionUnknownError
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.segment import StoredFrame
from monolith.frames.jpeg import decode, encode
from monolith.storage import FileStorage
from tests.integration.test_api import HERE, START, Sse, problem, until
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import (
    JPEG_LENGTH,
    OBJECTS,
    RUN,
    VIDEO,
    analysed,
    completed,
    probed,
    stored,
    submitted,
    whole_video,
)

PACK = "000000-1.mjpeg"
UPLOAD: dict[str, Any] = {"files": {"file": ("a.mp4", b"x" * 1000)}, "data": {"modelsToRun": OBJECTS}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


# Pictures, by the real reader


@pytest.fixture
async def storage(tmp_path: Path) -> FileStorage:
    made = FileStorage(tmp_path)
    made.prepare()
    return made


def drawn(jpeg: bytes, _: object) -> bytes:
    return encode(decode(jpeg), 90)


@pytest.fixture
async def reading(tmp_path: Path, storage: FileStorage) -> AsyncIterator[Api]:
    folder = tmp_path / "api"
    folder.mkdir()
    async with running_api(folder, read_frame=storage.read_frame, annotate=drawn) as running:
        await running.happened(*whole_video())
        yield running


async def test_a_pack_that_is_gone_is_404_and_comes_not_back(reading: Api, tmp_path: Path) -> None:
    body = problem(await reading.get(f"{HERE}/frame/1"), 404)
    assert body["type"].endswith(":frame-removed")
    assert list((tmp_path / "videos").iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, (b"\xff\xd8" + bytes(JPEG_LENGTH - 4) + b"\xff\xd9") * 20]
)
async def test_a_damaged_pack_is_no_fault_of_ours(reading: Api, storage: FileStorage, content: bytes) -> None:
    await storage.prepare_video(VIDEO)
    storage.pack_path(VIDEO, PACK).write_bytes(content)
    body = problem(await reading.get(f"{HERE}/frame/1"), 404)
    assert body["type"].endswith(":frame-damaged")


async def test_a_disk_that_fails_is_503(reading: Api, storage: FileStorage) -> None:
    await storage.prepare_video(VIDEO)
    storage.pack_path(VIDEO, PACK).mkdir()
    response = await reading.get(f"{HERE}/frame/1")
    assert "directory" in problem(response, 503)["detail"]
    assert response.headers["retry-after"] == "5"


async def test_a_sound_pack_is_drawn(reading: Api, storage: FileStorage) -> None:
    picture = encode(np.zeros((16, 16, 3), np.uint8), 90)
    frames = (
        StoredFrame(frame_number=50, timestamp=2.0, offset=7, length=len(picture), width=16, height=16),
    )
    stream, event = stored([])
    await reading.happened((stream, msgspec.structs.replace(event, frames=frames)))
    await storage.prepare_video(VIDEO)
    storage.pack_path(VIDEO, PACK).write_bytes(bytes(7) + picture)
    assert (await reading.get(f"{HERE}/frame/50?annotated=false")).content == picture
    assert (await reading.get(f"{HERE}/frame/50")).content.startswith(b"\xff\xd8")


# Uploads


async def test_an_upload_without_room_gets_507_before_it_is_stored(api: Api) -> None:
    api.room = 500
    body = problem(await api.client.post("/analysis/upload", **UPLOAD), 507)
    assert "VIDEO_ANALYSIS_MIN_FREE_BYTES" in body["detail"]
    assert list(api.services.uploads.iterdir()) == []


async def test_an_upload_of_unknown_length_is_stopped_when_the_room_ends(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield bytes(100_000)
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    api.room = 1_000_000
    problem(await api.client.post("/analysis/upload", content=body(), headers=headers), 507)
    assert list(api.services.uploads.iterdir()) == []


async def test_only_so_many_uploads_at_once(tmp_path: Path) -> None:
    async with running_api(tmp_path, limits=Limits(uploads=1)) as api:
        _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
        head = b"POST /analysis/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        writer.write(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b")
        await until(lambda: any(api.services.uploads.iterdir()))
        response = await api.client.post("/analysis/upload", **UPLOAD)
        assert problem(response, 503)["type"].endswith(":too-busy")
        assert response.headers["retry-after"] == "5"
        writer.close()
        await writer.wait_closed()
        await until(lambda: not any(api.services.uploads.iterdir()))
        assert (await api.client.post("/analysis/upload", **UPLOAD)).status_code == 201


@pytest.mark.parametrize(
    ("error", "left"),
    [(StoreUnavailableError("down"), 0), (RuntimeError("x"), 0), (SubmissionUnknownError("?"), 1)],
)
async def test_an_upload_whose_submission_fails_goes_unless_it_may_be_needed(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, left: int
) -> None:
    async def failing(**_: object) -> None:
        raise error

    monkeypatch.setattr(api.services.handlers, "submit_upload", failing)
    assert (await api.client.post("/analysis/upload", **UPLOAD)).status_code >= 500
    assert len(list(api.services.uploads.iterdir())) == left


async def test_a_repeated_upload_must_be_the_same_file(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await api.client.post("/analysis/upload", **UPLOAD, headers=headers)
    again = await api.client.post("/analysis/upload", **UPLOAD, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    other = {**UPLOAD, "files": {"file": ("a.mp4", b"y" * 1000)}}
    problem(await api.client.post("/analysis/upload", **other, headers=headers), 409)
    (path,) = api.services.uploads.iterdir()
    assert path.read_bytes() == b"x" * 1000


async def test_repeats_are_answered_while_the_disk_is_full(api: Api) -> None:
    """A repeat starts nothing; one that is not the same is told so, and a new submission is refused."""

    async def full() -> str | None:
        return "the disk is full"

    post, key = api.client.post, {"Idempotency-Key": "k"}
    uploaded = await post("/analysis/upload", **UPLOAD, headers=key)
    started = await post("/analysis/start", json=START, headers={"Idempotency-Key": "s"})
    api.answer_by(replace(api.services, no_room=full, room_bytes=lambda: -1))
    again = await post("/analysis/upload", **UPLOAD, headers=key)
    assert (again.status_code, again.json()) == (201, uploaded.json())
    assert again.headers["idempotent-replayed"] == "true"
    again = await post("/analysis/start", json=START, headers={"Idempotency-Key": "s"})
    assert (again.status_code, again.json()) == (201, started.json())
    other = {**UPLOAD, "files": {"file": ("a.mp4", b"y" * 1000)}}
    problem(await post("/analysis/upload", **other, headers=key), 409)
    for headers in ({}, {"Idempotency-Key": "new"}):
        problem(await post("/analysis/upload", **UPLOAD, headers=headers), 507)
        problem(await post("/analysis/start", json=START, headers=headers), 507)
    (path,) = api.services.uploads.iterdir()
    assert path.read_bytes() == b"x" * 1000


async def test_a_token_in_a_url_is_never_shown(api: Api) -> None:
    url = "http://example.org/a/clip.mp4?token=x1y2&v=3"
    answer = await api.client.post("/analysis/start", json={**START, "videoURL": url})
    body = answer.json()
    assert body["video_url"] == "http://example.org/a/clip.mp4?token=***&v=3"
    for path in ("", "/events"):
        assert "x1y2" not in (await api.get(f"/analysis/{body['video_id']}{path}")).text


# Who asks


async def test_a_foreign_page_changes_nothing(api: Api) -> None:
    headers = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    content = msgspec.json.encode(START)
    problem(await api.client.post("/analysis/start", content=content, headers=headers), 403)
    assert (await api.get("/analysis/videos?status=all")).json() == []
    del headers["Origin"]
    assert (await api.client.post("/analysis/start", content=content, headers=headers)).status_code == 201


async def test_a_foreign_name_leads_nowhere(tmp_path: Path) -> None:
    async with running_api(tmp_path, loopback_only=True) as api:
        problem(await api.get("/analysis/videos", headers={"Host": "evil.example:8000"}), 421)
        assert (await api.get("/analysis/videos")).status_code == 200


# Large answers


class WatchedDecoder:
    """Notes in which threads events are decoded."""

    def __init__(self) -> None:
        self.threads: set[bool] = set()
        self._codec = EventCodec(DOMAIN_EVENTS)

    def decode(self, recorded: RecordedEvent) -> msgspec.Struct:
        self.threads.add(threading.current_thread() is threading.main_thread())
        return self._codec.decode(recorded)


def large_story() -> list[Any]:
    results = [analysed(range(n, n + 100)) for n in range(1, 2001, 100)]
    return [*submitted(), *probed(2000), *results, *completed(2000)]


async def test_large_events_are_rendered_in_threads(tmp_path: Path) -> None:
    decoder = WatchedDecoder()
    async with running_api(tmp_path, decoder=decoder) as api:
        await api.happened(*large_story())
        decoder.threads.clear()
        whole = (await api.get(f"{HERE}/events?limit=1000")).json()
        assert decoder.threads == {False}
        decoder.threads.clear()
        async with api.client.stream("GET", f"{HERE}/events/stream") as response:
            seen = await Sse(response).until("RunCompleted")
        assert False in decoder.threads
        assert [kind for _, kind in seen] == [event["event_type"] for event in whole]


async def test_a_page_of_events_is_bounded_in_bytes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.api.routes.events._MOST_BYTES", 50_000)
    monkeypatch.setattr("monolith.api.routes.events._READ_EVENTS", 3)
    await api.happened(*large_story())
    events, address, pages = [], f"{HERE}/events?limit=1000", 0
    while address:
        response = await api.get(address)
        assert len(response.content) < 200_000
        events += response.json()
        pages += 1
        address = response.links.get("next", {}).get("url", "")
    assert (len(events), pages > 5) == (len(large_story()), True)


async def test_a_list_of_videos_is_read_in_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.api.routes.videos._PAGE", 2)
    ids = [f"{VIDEO[:-2]}{number:02d}" for number in range(7)]
    for number, video_id in enumerate(ids):
        await api.happened(*submitted(video_id=video_id, run_id=f"{RUN[:-2]}{number:02d}"))

    async def listed(query: str) -> list[str]:
        return [video["video_id"] for video in (await api.get(f"/analysis/videos?{query}")).json()]

    newest = ids[::-1]
    assert await listed("status=all") == newest
    assert await listed("status=Pending&limit=3&offset=1") == newest[1:4]
    assert await listed("status=all&limit=4") == newest[:4]
    assert await listed("status=all&offset=9") == []
    assert await listed("status=Failed") == []
