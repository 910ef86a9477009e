"""The API's answers over HTTP, row by row of what users rely on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from monolith.api.routes import web
from monolith.api.services import Limits
from monolith.domain.events import FramesAnalysed, RunCancelled, RunFailed, results_stream, video_stream
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import (
    COLORS,
    FACES,
    OBJECTS,
    RUN,
    SECOND_RUN,
    UNSURE,
    VIDEO,
    analysed,
    completed,
    probed,
    requested,
    stored,
    submitted,
    whole_video,
)

START = {
    "videoURL": "http://example.org/a/clip.mp4",
    "modelsToRun": [OBJECTS],
    "videoName": "Clip",
    "frameStep": "10",
}
HERE = f"/analysis/{VIDEO}"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, limits=Limits(json_bytes=10_000, upload_bytes=3_000_000)) as running:
        yield running


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that `response` must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance"} <= body.keys()
    return body


# Submitting


async def test_start_answers_with_the_video_and_get_knows_it(api: Api) -> None:
    response = await api.client.post("/analysis/start", json=START)
    assert response.status_code == 201
    body = response.json()
    address = f"http://127.0.0.1:{api.server.port}/analysis/{body['video_id']}"
    assert body == {
        "video_id": body["video_id"],
        "video_url": "http://example.org/a/clip.mp4",
        "status": "Pending",
        "video_name": "Clip",
        "models_to_run": [OBJECTS],
        "frame_step": 10,
        "status_url": address,
    }
    assert response.headers["location"] == address
    seen = (await api.get(address)).json()
    assert (seen["status"], seen["frame_step"], seen["video_name"]) == ("Pending", 10, "Clip")
    assert "results_url" not in seen


@pytest.mark.parametrize("step", [None, "", 1, "1"])
async def test_a_missing_or_empty_frame_step_means_1(api: Api, step: object) -> None:
    response = await api.client.post("/analysis/start", json={**START, "frameStep": step})
    assert response.json()["frame_step"] == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"videoURL": "example.org/a.mp4"}, "videoURL"),
        ({"videoURL": "http:///a.mp4"}, "videoURL"),
        ({"videoURL": "http://example.org"}, "videoURL"),
        ({"videoURL": 7}, "videoURL"),
        ({"modelsToRun": ["cats"]}, "modelsToRun"),
        ({"modelsToRun": "objects_detection"}, "modelsToRun"),
        ({"modelsToRun": [["x"]]}, "modelsToRun"),
        ({"frameStep": 0}, "frameStep"),
        ({"frameStep": "x"}, "frameStep"),
        ({"videoName": 5}, "videoName"),
    ],
)
async def test_a_wrong_part_is_named(api: Api, change: dict[str, object], field: str) -> None:
    response = await api.client.post("/analysis/start", json={**START, **change})
    assert problem(response, 400)["field"] == field


@pytest.mark.parametrize("body", [b"", b"no json", b"[1]", b'"x"', b'{"a": "\\ud800"}', b"\xff", b"[" * 5000])
async def test_a_body_that_is_no_json_object_gets_400(api: Api, body: bytes) -> None:
    problem(await api.client.post("/analysis/start", content=body), 400)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_body_gets_413(api: Api, declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1000

    content = b" " * 20_000 if declared else pieces()
    problem(await api.client.post("/analysis/start", content=content), 413)


async def test_an_idempotency_key_returns_the_first_answer(api: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await api.client.post("/analysis/start", json=START, headers=headers)
    again = await api.client.post("/analysis/start", json=START, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await api.get("/analysis/videos?status=all")).json()) == 1
    other = await api.client.post("/analysis/start", json={**START, "frameStep": 3}, headers=headers)
    problem(other, 409)


async def test_an_upload_is_stored_whole(api: Api) -> None:
    content = bytes(range(256)) * 8000
    response = await api.client.post(
        "/analysis/upload",
        files={"file": ("dir\\my clip.mp4", content, "video/mp4")},
        data={"modelsToRun": f"{OBJECTS},{COLORS}", "frameStep": "5"},
    )
    assert response.status_code == 201, response.text
    body = response.json()
    assert (body["video_url"], body["video_name"]) == ("upload:my clip.mp4", "my clip.mp4")
    assert (body["models_to_run"], body["frame_step"]) == ([OBJECTS, COLORS], 5)
    (path,) = api.services.uploads.iterdir()
    assert path.read_bytes() == content


@pytest.mark.parametrize("models", [[OBJECTS, FACES], json.dumps([OBJECTS, FACES])])
async def test_an_upload_takes_models_as_a_list_too(api: Api, models: object) -> None:
    response = await api.client.post(
        "/analysis/upload", files={"file": ("a.mp4", b"x")}, data={"modelsToRun": models}
    )
    assert response.json()["models_to_run"] == [OBJECTS, FACES]


@pytest.mark.parametrize(
    "request_",
    [
        {"files": {"file": ("a.mp4", b"x")}, "data": {"modelsToRun": "cats"}},
        {"files": {"file": ("a.mp4", b"x")}},
        {"files": {"file": ("a.mp4", b"")}, "data": {"modelsToRun": OBJECTS}},
        {"files": {"other": ("a.mp4", b"x")}, "data": {"modelsToRun": OBJECTS}},
        {"files": [("file", ("a", b"x")), ("file", ("b", b"x"))], "data": {"modelsToRun": OBJECTS}},
        {"files": {"file": ("a.mp4", b"x")}, "data": {"modelsToRun": "[1"}},
        {"content": b"x", "headers": {"content-type": "video/mp4"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxy',
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
    ],
)
async def test_a_bad_upload_gets_400_and_leaves_nothing(api: Api, request_: dict[str, Any]) -> None:
    problem(await api.client.post("/analysis/upload", **request_), 400)
    assert list(api.services.uploads.iterdir()) == []


async def test_a_too_large_upload_gets_413_and_leaves_nothing(api: Api) -> None:
    response = await api.client.post(
        "/analysis/upload", files={"file": ("a.mp4", bytes(3_100_000))}, data={"modelsToRun": OBJECTS}
    )
    problem(response, 413)
    assert list(api.services.uploads.iterdir()) == []


async def test_an_upload_that_breaks_off_leaves_nothing(api: Api) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    head = b"POST /analysis/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
    writer.write(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n")
    writer.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(5000))
    await writer.drain()
    await until(lambda: any(api.services.uploads.iterdir()))
    writer.close()
    await writer.wait_closed()
    await until(lambda: not any(api.services.uploads.iterdir()))


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


# A video


async def test_a_video_on_its_way(api: Api) -> None:
    await api.happened(*submitted((OBJECTS, COLORS), step=2), *probed(100), stored([2, 4, 6]))
    await api.happened(analysed([2, 4, 6], OBJECTS), analysed([2, 4], COLORS))
    body = (await api.get(HERE)).json()
    assert (body["status"], body["error"], body["greatest_frame_analyzed"]) == ("Processing", None, 4)
    assert body["ts"] == "2023-11-14T22:13:20.250000+00:00"
    assert (body["frames_total"], body["frames_sampled"], body["frames_analyzed"]) == (100, 50, 2)
    assert (body["progress"], body["coverage"]) == (0.04, 0.04)
    assert [run["run_id"] for run in body["runs"]] == [RUN]
    assert "secret" not in json.dumps(body)
    assert (await api.get("/analysis/videos")).json() == []


async def test_a_completed_video(api: Api) -> None:
    await api.happened(*whole_video())
    body = (await api.get(HERE)).json()
    assert (body["status"], body["progress"], body["coverage"]) == ("Completed", 1.0, 1.0)
    assert body["results_url"] == f"http://127.0.0.1:{api.server.port}{HERE}/results"
    assert [video["video_id"] for video in (await api.get("/analysis/videos")).json()] == [VIDEO]


async def test_a_failed_and_a_cancelled_run(api: Api) -> None:
    await api.happened(*submitted())
    failed = RunFailed(video_id=VIDEO, run_id=RUN, error="the file is cut short", failed_at=1.0)
    await api.happened((video_stream(VIDEO), failed))
    body = (await api.get(HERE)).json()
    assert (body["status"], body["error"]) == ("Failed", "the file is cut short")
    cancelled = RunCancelled(video_id=VIDEO, run_id=RUN, reason="by the user", cancelled_at=1.0)
    await api.happened((video_stream(VIDEO), cancelled))
    body = (await api.get(HERE)).json()
    assert (body["status"], body["error"]) == ("Failed", "cancelled: by the user")


async def test_cancel_and_delete(api: Api) -> None:
    video_id = (await api.client.post("/analysis/start", json=START)).json()["video_id"]
    cancelled = await api.client.post(f"/analysis/{video_id}/cancel")
    assert cancelled.json()["status"] == "Failed"
    problem(await api.client.post(f"/analysis/{video_id}/cancel"), 409)
    deleted = await api.client.delete(f"/analysis/{video_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for path in ("", "/results", "/frame/1", "/frame/1/results", "/metrics", "/events", "/events/stream"):
        problem(await api.get(f"/analysis/{video_id}{path}"), 404)
    problem(await api.client.delete(f"/analysis/{video_id}"), 404)


@pytest.mark.parametrize(
    "path", ["", "/results", "/frame/1", "/frame/1/results", "/metrics", "/events", "/events/stream"]
)
async def test_unknown_is_404_and_no_uuid_is_400(api: Api, path: str) -> None:
    problem(await api.get(f"/analysis/{uuid4()}{path}"), 404)
    problem(await api.get(f"/analysis/nonsense{path}"), 400)


async def test_metrics_of_a_video(api: Api) -> None:
    await api.happened(*whole_video((OBJECTS,)))
    rows = (await api.get(f"{HERE}/metrics")).json()
    assert {row["video_id"] for row in rows} == {VIDEO}
    sums = {row["metric_name"]: row["metric_value"] for row in rows}
    assert sums == {
        "Video Ingest Time": 1.5,
        "Total Frames Extracted": 4,
        "Frame Decode Time": 0.5,
        "Frame Resize Time": 0.25,
        "Frame Encode Time": 0.125,
        "Total Frames Analyzed": 4,
        "Object Detection Frames": 4,
        "Object Detection Inference Time": pytest.approx(0.04),
        "Wall Time": 10.0,
        "Frames Analyzed Per Second": 0.4,
    }


# Results


async def test_rows_have_the_format_that_scripts_rely_on(api: Api) -> None:
    await api.happened(*whole_video((COLORS, FACES, OBJECTS), frames=1))
    rows = (await api.get(f"{HERE}/results")).json()
    base = {
        "video_id": VIDEO,
        "frame_number": 1,
        "video_timestamp": 0.04,
        "inference_start_time": 1_700_000_001.5,
        "inference_time": 0.01,
        "frames_url": f"http://127.0.0.1:{api.server.port}{HERE}/frame/1",
    }
    colors = [
        {"color": "#102030", "share": 0.5},
        {"color": "#405060", "share": 0.3},
        {"color": "#708090", "share": 0.2},
    ]
    face = {
        "face_id": 1,
        "coordinates": [5.0, 6.0, 20.0, 40.0],
        "emotion": "happy",
        "probability": 91.2,
        "emotion_probability": 75.0,
    }
    car = {"label": "car", "probability": 87.31, "coordinates": [10.0, 20.0, 100.5, 50.25]}
    assert rows == [
        {**base, "inference_model": "Color Palette Detection", "inference_results": colors},
        {**base, "inference_model": "Joy Detection", "inference_results": [face]},
        {**base, "inference_model": "Object Detection", "inference_results": [car]},
    ]
    assert (await api.get(f"{HERE}/frame/1/results")).json() == rows


async def test_addresses_use_the_public_url(tmp_path: Path) -> None:
    async with running_api(tmp_path, public_url="https://videos.example.org/x/") as api:
        await api.happened(*whole_video(frames=1))
        row = (await api.get(f"{HERE}/results")).json()[0]
        assert row["frames_url"] == f"https://videos.example.org/x{HERE}/frame/1"
        body = (await api.get(HERE)).json()
        assert body["results_url"] == f"https://videos.example.org/x{HERE}/results"


async def test_many_rows_come_whole_and_in_order(api: Api) -> None:
    await api.happened(*whole_video((COLORS, OBJECTS), frames=3000))
    rows = (await api.get(f"{HERE}/results")).json()
    assert [(row["frame_number"], row["inference_model"][0]) for row in rows] == [
        (n, letter) for n in range(1, 3001) for letter in "CO"
    ]


async def test_no_rows_yet(api: Api) -> None:
    await api.happened(*submitted())
    assert (await api.get(f"{HERE}/results")).text == "[]"
    assert (await api.get(f"{HERE}/results?limit=5")).text == "[]"


async def test_pages_follow_their_links(api: Api) -> None:
    await api.happened(*whole_video((COLORS, OBJECTS), frames=5))
    whole = (await api.get(f"{HERE}/results?from_frame=2")).json()
    rows, address = [], f"{HERE}/results?from_frame=2&limit=3"
    while address:
        response = await api.get(address)
        rows += response.json()
        address = response.links.get("next", {}).get("url", "")
    assert rows == whole
    assert len(rows) == 8


@pytest.mark.parametrize(
    ("query", "frames"),
    [
        ("from_frame=2&to_frame=3", [2, 3]),
        ("from_time=0.07&to_time=0.12", [2, 3]),
        ("from_frame=4", [4]),
        ("label=car&to_frame=1", [1]),
        ("label=person", []),
        ("min_confidence=0.9&to_frame=1", [1]),
        ("model=objects_detection&to_frame=1", [1]),
        ("model=Object Detection&to_frame=1", [1]),
        ("model=color_detection", []),
        (f"run={RUN}&to_frame=1", [1]),
    ],
)
async def test_filters(api: Api, query: str, frames: list[int]) -> None:
    await api.happened(*whole_video())
    for more in ("", "&limit=2"):
        rows = (await api.get(f"{HERE}/results?{query}{more}")).json()
        assert [row["frame_number"] for row in rows] == frames


@pytest.mark.parametrize(
    "path",
    [
        "results", "results?format=csv", "frame/1/results", "frame/1", "metrics", "timeline", "summary", "coco.json",
        "subtitles.vtt", "annotated.mp4",
    ],
)  # fmt: skip
async def test_a_run_of_another_video_is_not_found(api: Api, path: str) -> None:
    await api.happened(*whole_video())
    mark = "&" if "?" in path else "?"
    found = problem(await api.get(f"{HERE}/{path}{mark}run={SECOND_RUN}"), 404)
    assert found["type"] == "urn:video-analysis:problem:run-not-found"
    assert found["field"] == "run"
    assert found["detail"].startswith(
        f"video {VIDEO} has no run {SECOND_RUN}; GET /analysis/{VIDEO} lists its runs"
    )


async def test_confidence_and_label_choose_detections(api: Api) -> None:
    await api.happened(*whole_video(frames=1))

    async def labels(query: str) -> list[str]:
        (row,) = (await api.get(f"{HERE}/results?{query}")).json()
        return [entry["label"] for entry in row["inference_results"]]

    assert await labels("min_confidence=0.1") == ["car", "person"]
    assert await labels("min_confidence=0.1&label=person") == ["person"]
    assert await labels("min_confidence=0.9") == []


async def test_sparse_matches_fill_a_page(api: Api) -> None:
    events = [
        *submitted(),
        *probed(50),
        stored(range(1, 51)),
        analysed(range(1, 50)),
        analysed([50], found=(UNSURE,)),
    ]
    await api.happened(*events)
    response = await api.get(f"{HERE}/results?label=person&min_confidence=0&limit=1")
    assert [row["frame_number"] for row in response.json()] == [1]
    response = await api.get(f"{HERE}/results?label=car&from_frame=49&limit=2")
    assert [row["frame_number"] for row in response.json()] == [49]
    assert "link" not in response.headers


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "model=cats",
        "min_confidence=2",
        "from_frame=-1",
        "cursor=x",
        "run=x",
        "from_time=nan",
    ],
)
async def test_wrong_parameters_get_400(api: Api, query: str) -> None:
    await api.happened(*whole_video())
    problem(await api.get(f"{HERE}/results?{query}"), 400)


async def test_results_come_from_the_newest_completed_run_of_each_model(api: Api) -> None:
    await api.happened(*whole_video((COLORS, OBJECTS), frames=2))
    await api.happened(requested((OBJECTS,), run_id=SECOND_RUN))
    await api.happened(analysed([1], OBJECTS, SECOND_RUN, found=(UNSURE,)))
    path = f"{HERE}/results?min_confidence=0&model={OBJECTS}&to_frame=1"
    assert len((await api.get(path)).json()[0]["inference_results"]) == 2
    await api.happened(*completed(2, SECOND_RUN))
    assert len((await api.get(path)).json()[0]["inference_results"]) == 1
    rows = (await api.get(f"{HERE}/results")).json()
    assert [(row["frame_number"], row["inference_model"][0]) for row in rows] == [
        (1, "C"),
        (1, "O"),
        (2, "C"),
    ]
    assert (await api.get(HERE)).json()["status"] == "Completed"


async def test_a_client_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    async with running_api(tmp_path, limits=Limits(send_seconds=0.2)) as api:
        await api.happened(*whole_video((COLORS, FACES, OBJECTS), frames=6000))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", api.server.port))
            await loop.sock_sendall(client, f"GET {HERE}/results HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            registry = api.services.registry
            labels = {"method": "GET", "route": "/analysis/{video_id}/results", "status": "200"}
            await until(lambda: registry.get_sample_value("video_analysis_http_requests_total", labels) == 1)
            last = b""
            async with asyncio.timeout(60):
                while piece := await loop.sock_recv(client, 1 << 20):
                    last = (last + piece)[-5:]
        assert last != b"0\r\n\r\n"


# Frames


async def test_frames_as_stored_and_with_what_was_found(api: Api) -> None:
    await api.happened(*whole_video((COLORS, OBJECTS), frames=2))
    api.pictures["000000-1.mjpeg"] = bytes(20) + b"\xff\xd8picture" + bytes(30)
    raw = await api.get(f"{HERE}/frame/2?annotated=false")
    assert (raw.headers["content-type"], raw.content) == ("image/jpeg", b"\xff\xd8picture\x00")
    drawn = await api.get(f"{HERE}/frame/2")
    assert drawn.headers["content-type"] == "image/jpeg"
    assert drawn.content == raw.content + b"#102030,#405060,#708090,car"
    everything = await api.get(f"{HERE}/frame/2?min_confidence=0")
    assert everything.content.endswith(b"car,person")


async def test_a_frame_that_was_not_sampled_names_its_neighbours(api: Api) -> None:
    await api.happened(*submitted(step=10), *probed(), stored([10, 20, 30]))
    for path in ("frame/14", "frame/14/results"):
        body = problem(await api.get(f"{HERE}/{path}"), 404)
        assert (body["before"], body["after"]) == (10, 20)
        assert "10 and 20" in body["detail"]
    body = problem(await api.get(f"{HERE}/frame/99"), 404)
    assert (body["before"], body.get("after")) == (30, None)


async def test_a_picture_that_is_gone_is_404_and_a_wrong_number_400(api: Api) -> None:
    await api.happened(*whole_video())
    assert "removed" in problem(await api.get(f"{HERE}/frame/1"), 404)["detail"]
    for number in ("0", "-1", "x", str(2**40)):
        problem(await api.get(f"{HERE}/frame/{number}"), 400)


# Events


async def test_events_in_pages_without_places_inside_the_server(api: Api) -> None:
    await api.happened(*whole_video(frames=2))
    events, address = [], f"{HERE}/events?limit=3"
    while address:
        response = await api.get(address)
        assert "secret" not in response.text
        events += response.json()
        address = response.links.get("next", {}).get("url", "")
    assert [event["event_type"] for event in events] == [
        "VideoSubmitted", "RunRequested", "VideoProbed", "SegmentsPlanned", "FramesStored", "FramesAnalysed",
        "SegmentClosed", "RunCompleted",
    ]  # fmt: skip
    assert events[1]["data"]["run_id"] == RUN


class Sse:
    """Reads server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def event(self) -> tuple[int, str, dict[str, Any]]:
        """The next event: id, type, data."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line and name:
                    fields[name] = value
                elif "data" in fields:
                    return int(fields["id"]), fields["event"], json.loads(fields["data"])
        raise EOFError

    async def until(self, event_type: str) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        while not found or found[-1][1] != event_type:
            position, kind, _ = await self.event()
            found.append((position, kind))
        return found

    async def rest(self) -> list[str]:
        async with asyncio.timeout(60):
            return [line async for line in self._lines]


async def test_the_stream_tells_what_was_and_what_happens_later_runs_too(api: Api) -> None:
    await api.happened(*submitted(), *probed())
    async with api.client.stream("GET", f"{HERE}/events/stream") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        sse = Sse(response)
        seen = await sse.until("SegmentsPlanned")
        assert [kind for _, kind in seen][:2] == ["VideoSubmitted", "RunRequested"]
        await api.happened(analysed([1]))
        assert (await sse.event())[1] == "FramesAnalysed"
        await api.happened(requested((COLORS,), run_id=SECOND_RUN), analysed([1], COLORS, SECOND_RUN))
        assert (await sse.event())[1] == "RunRequested"
        _, kind, data = await sse.event()
        assert (kind, data["data"]["run_id"]) == ("FramesAnalysed", SECOND_RUN)


async def test_the_stream_goes_on_behind_the_last_event_id(api: Api) -> None:
    await api.happened(*whole_video(frames=2), requested((COLORS,), run_id=SECOND_RUN))
    await api.happened(analysed([1], COLORS, SECOND_RUN), *completed(2, SECOND_RUN)[:1])
    async with api.client.stream("GET", f"{HERE}/events/stream") as response:
        sse = Sse(response)
        whole = await sse.until("SegmentClosed") + await sse.until("SegmentClosed")
    for position, _ in whole[:3]:
        headers = {"Last-Event-ID": str(position)}
        async with api.client.stream("GET", f"{HERE}/events/stream", headers=headers) as response:
            first = await Sse(response).event()
        following = [entry for entry in whole if entry[0] > position]
        assert first[:2] == following[0]
    bad = await api.get(f"{HERE}/events/stream", headers={"Last-Event-ID": "x"})
    problem(bad, 400)


async def test_the_stream_ends_with_the_video(api: Api) -> None:
    video_id = (await api.client.post("/analysis/start", json=START)).json()["video_id"]
    async with api.client.stream("GET", f"/analysis/{video_id}/events/stream") as response:
        sse = Sse(response)
        await sse.until("RunRequested")
        await api.client.delete(f"/analysis/{video_id}")
        assert (await sse.until("VideoDeleted"))[-1][1] == "VideoDeleted"
        assert "".join(await sse.rest()) == ""


async def test_heartbeats_and_the_number_of_streams(tmp_path: Path) -> None:
    limits = Limits(heartbeat_seconds=0.02, event_streams=1)
    async with running_api(tmp_path, limits=limits) as api:
        await api.happened(*submitted())
        async with api.client.stream("GET", f"{HERE}/events/stream") as response:
            lines = response.aiter_lines()
            async with asyncio.timeout(60):
                while not (await anext(lines)).startswith(": "):
                    pass
            problem(await api.get(f"{HERE}/events/stream"), 503)
        await until(lambda: api.services.registry.get_sample_value("video_analysis_event_streams") == 0)


async def test_a_stopping_server_ends_streams_cleanly(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.happened(*submitted())
        async with api.client.stream("GET", f"{HERE}/events/stream") as response:
            sse = Sse(response)
            await sse.until("RunRequested")
            stop = asyncio.create_task(api.server.stop())
            assert "".join(await sse.rest()) == ""
            await stop
        with pytest.raises(httpx.ConnectError):
            await api.get("/health/live")


# Operation


async def test_health(api: Api) -> None:
    assert (await api.get("/health/live")).json() == {"status": "live", "reasons": {}}
    assert (await api.get("/health/ready")).status_code == 200
    api.reasons["models"] = "the models are loading"
    response = await api.get("/health/ready")
    assert (response.status_code, response.json()["reasons"]) == (503, {"models": "the models are loading"})


async def test_metrics_count_requests_by_route(api: Api) -> None:
    await api.get(f"/analysis/{uuid4()}")
    text = (await api.get("/metrics")).text
    assert (
        'video_analysis_http_requests_total{method="GET",route="/analysis/{video_id}",status="404"} 1.0'
        in text
    )
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(names) > 5
    assert all(name.startswith("video_analysis_") for name in names), names


async def test_other_errors_are_problems_too(api: Api) -> None:
    problem(await api.get("/nothing"), 404)
    response = await api.client.put("/analysis/start")
    problem(response, 405)
    assert "POST" in response.headers["allow"]


async def test_a_fault_of_ours_shows_no_insides(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(api.services.read_models, "video", broken)
    response = await api.get(HERE)
    assert problem(response, 500)["type"] == "about:blank"
    assert "secret" not in response.text


async def test_closed_read_models_are_503(api: Api) -> None:
    await api.services.read_models.close()
    response = await api.get(HERE)
    problem(response, 503)
    assert response.headers["retry-after"] == "5"


async def test_a_poisonous_event_is_parked_and_shown(api: Api) -> None:
    await api.happened(*whole_video(frames=2))
    _, event = analysed([1])
    assert isinstance(event, FramesAnalysed)
    unknown = msgspec.structs.replace(event.model, key="no_such_model")
    await api.happened((results_stream(RUN, 7), msgspec.structs.replace(event, model=unknown)))
    assert (await api.get(HERE)).json()["parked_events"] == 1
    assert (await api.services.read_models.parked_count()) == 1


async def test_pages_need_nothing_from_elsewhere(api: Api) -> None:
    assets = sorted((Path(web.__file__).parents[2] / "web").iterdir())
    assert len(assets) > 20
    for path in ("/", "/docs", "/live", "/publish", *(f"/web/{asset.name}" for asset in assets)):
        response = await api.get(path)
        assert response.status_code == 200
        assert "http://" not in response.text
        assert "https://" not in response.text
    problem(await api.get("/web/..%2fapi%2fapp.py"), 404)
