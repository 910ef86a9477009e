"""The client against a small app that answers as the API does, and as a broken one would."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from monolith.cli.annotated import annotated_frames
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from tests.unit.cli.rows import VIDEO_ID

STATUS: dict[str, Any] = {
    "video_id": VIDEO_ID, "video_name": "clip", "video_url": "file:///clip", "error": None, "frame_step": 1,
    "status_url": "http://api/x", "frames_total": 4, "frames_sampled": 4, "frames_analyzed": 0,
    "frames_dropped": 0, "coverage": None, "progress": 0.0, "media": None, "something_new": [1],
}  # fmt: skip


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[AnalysisClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        yield AnalysisClient(http)


def row(frame: int) -> dict[str, Any]:
    return {
        "video_id": VIDEO_ID,
        "frame_number": frame,
        "video_timestamp": frame / 25,
        "inference_model": "Object Detection",
        "inference_results": [{"label": "car", "probability": 50.0, "coordinates": [1, 2, 3, 4]}],
        "frames_url": "",
    }


async def test_follow_ends_with_the_analysis() -> None:
    app, names = FastAPI(), iter(["Pending", "Processing", "Completed"])

    @app.get("/analysis/{video_id}")
    async def status(video_id: str) -> dict[str, Any]:
        return STATUS | {"status": next(names)}

    async with client_of(app) as client:
        seen = [status.status async for status in client.follow(VIDEO_ID)]
    assert seen == ["Pending", "Processing", "Completed"]


async def test_rows_follow_the_links_within_this_server() -> None:
    app, asked = FastAPI(), list[str]()

    @app.get("/analysis/{video_id}/results")
    async def results(request: Request, cursor: int = 0) -> Response:
        asked.append(str(request.url))
        following = f"https://public.example.org{request.url.path}?limit=2000&cursor={cursor + 1}"
        headers = {"Link": f'<{following}>; rel="next"'} if cursor < 2 else {}
        return JSONResponse([row(cursor + 1)] if cursor != 1 else [], headers=headers)

    async with client_of(app) as client:
        pages = [[found.frame_number for found in page] async for page in client.rows(VIDEO_ID)]
    assert pages == [[1], [3]]
    assert all(url.startswith("http://api/") for url in asked)
    assert len(asked) == 3


async def test_an_upload_is_sent_whole_with_progress(tmp_path: Path) -> None:
    app, sent = FastAPI(), list[tuple[int, int]]()
    received: dict[str, Any] = {}

    @app.post("/analysis/upload")
    async def upload(request: Request) -> Response:
        async with request.form() as form:
            received["models"] = form.getlist("modelsToRun")
            received["rest"] = (form["videoName"], form["frameStep"])
            file: Any = form["file"]
            received["file"] = (file.filename, await file.read())
        return JSONResponse({"video_id": VIDEO_ID}, 201)

    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(200_000))
    async with client_of(app) as client:
        video_id = await client.upload(
            path,
            name="n",
            models=["a", "b"],
            frame_step=3,
            progress=lambda done, size: sent.append((done, size)),
        )
    assert video_id == VIDEO_ID
    assert received == {"models": ["a", "b"], "rest": ("n", "3"), "file": ("clip.mp4", bytes(200_000))}
    assert sent[-1] == (200_000, 200_000)


async def test_start_sends_what_the_api_takes() -> None:
    app, bodies = FastAPI(), list[Any]()

    @app.post("/analysis/start")
    async def start(request: Request) -> Response:
        bodies.append(await request.json())
        return JSONResponse({"video_id": VIDEO_ID}, 201)

    async with client_of(app) as client:
        assert await client.start("http://a/b", name=None, models=["x"], frame_step=2) == VIDEO_ID
    assert bodies == [{"videoURL": "http://a/b", "modelsToRun": ["x"], "frameStep": 2}]


@pytest.mark.parametrize(
    ("status", "body", "text", "code"),
    [
        (400, {"detail": "frameStep must be a number"}, "frameStep must be a number", Exit.BAD_SOURCE),
        (503, {"detail": "the disk is full"}, "the disk is full", Exit.FAILED),
        (502, "nonsense", "the server answered 502 Bad Gateway", Exit.FAILED),
    ],
)
async def test_the_servers_words_are_passed_on(status: int, body: object, text: str, code: Exit) -> None:
    app = FastAPI()

    @app.get("/analysis/{video_id}")
    async def answer(video_id: str) -> Response:
        return JSONResponse(body, status)

    async with client_of(app) as client:
        with pytest.raises(CliError) as caught:
            await client.status(VIDEO_ID)
    assert (str(caught.value), caught.value.code) == (text, code)


def busy(times: int, answer: Response, **headers: str) -> tuple[FastAPI, list[bytes]]:
    """An app that so many requests come too early for, and the bodies that it was sent."""
    app, bodies = FastAPI(), list[bytes]()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def any_path(path: str, request: Request) -> Response:
        bodies.append(await request.body())
        if len(bodies) > times:
            return answer
        return JSONResponse({"detail": "you ask too often"}, 429, headers=headers)

    return app, bodies


async def test_what_comes_too_early_waits_as_the_server_says(caplog: pytest.LogCaptureFixture) -> None:
    app, bodies = busy(2, JSONResponse(STATUS | {"status": "Completed"}), **{"Retry-After": "0"})
    async with client_of(app) as client:
        assert (await client.status(VIDEO_ID)).status == "Completed"
    assert len(bodies) == 3
    assert caplog.messages == [
        "you ask too often (waiting 0 s, 1 of at most 5 times)",
        "you ask too often (waiting 0 s, 2 of at most 5 times)",
    ]


async def test_a_time_in_the_past_is_no_wait() -> None:
    app, _ = busy(
        1, JSONResponse(STATUS | {"status": "Failed"}), **{"Retry-After": "Fri, 01 Jan 2021 00:00:00 GMT"}
    )
    async with client_of(app) as client:
        assert (await client.status(VIDEO_ID)).status == "Failed"


@pytest.mark.parametrize(("wait", "asked"), [("0", 6), ("3600", 1)])
async def test_it_does_not_wait_for_ever(wait: str, asked: int) -> None:
    app, bodies = busy(100, JSONResponse({}), **{"Retry-After": wait})
    async with client_of(app) as client:
        for call in (client.status(VIDEO_ID), client.download("/x", io.BytesIO())):
            bodies.clear()
            with pytest.raises(CliError, match=r"^you ask too often$") as caught:
                await call
            assert (caught.value.code, len(bodies)) == (Exit.ENVIRONMENT, asked)


async def test_a_download_and_an_upload_begin_anew(tmp_path: Path) -> None:
    app, _ = busy(1, Response(b"whole"), **{"Retry-After": "0"})
    file = io.BytesIO()
    async with client_of(app) as client:
        assert await client.download("/x", file) == 5
    assert file.getvalue() == b"whole"
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(bytes(range(256)) * 1000)
    app, bodies = busy(1, JSONResponse({"video_id": VIDEO_ID}), **{"Retry-After": "0"})
    async with client_of(app) as client:
        assert await client.upload(clip, name=None, models=["m"], frame_step=1) == VIDEO_ID
    assert len(bodies) == 2
    assert all(clip.read_bytes() in body for body in bodies)


async def test_an_answer_of_another_program_is_refused() -> None:
    app = FastAPI()

    @app.get("/analysis/{video_id}")
    async def answer(video_id: str) -> dict[str, str]:
        return {"hello": "world"}

    async with client_of(app) as client:
        with pytest.raises(CliError, match="gave an answer that this version does not understand") as caught:
            await client.status(VIDEO_ID)
    assert caught.value.code is Exit.ENVIRONMENT


async def test_a_server_that_is_gone_is_named() -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9", trust_env=False) as http:
        with pytest.raises(CliError, match=r"^http://127\.0\.0\.1:9 does not answer: ") as caught:
            await AnalysisClient(http).status(VIDEO_ID)
    assert caught.value.code is Exit.ENVIRONMENT


async def test_frames_come_in_order_a_few_at_a_time() -> None:
    app = FastAPI()
    running, most = 0, 0

    @app.get("/analysis/{video_id}/frame/{number}")
    async def frame(number: int) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02 if number % 3 == 0 else 0)
        running -= 1
        return Response(str(number))

    timestamps = {number: number / 25 for number in range(20, 0, -1)}
    async with client_of(app) as client:
        got = [found async for found in annotated_frames(client, VIDEO_ID, timestamps)]
    assert got == [(n, n / 25, str(n).encode()) for n in range(1, 21)]
    assert 1 < most <= 4


async def test_frames_that_are_not_wanted_any_more_are_not_fetched_on() -> None:
    app, asked = FastAPI(), list[int]()

    @app.get("/analysis/{video_id}/frame/{number}")
    async def frame(number: int) -> Response:
        asked.append(number)
        return Response(b"", 404 if number == 2 else 200)

    timestamps = dict.fromkeys(range(1, 50), 0.0)
    async with client_of(app) as client:
        with pytest.raises(CliError):
            async for _ in annotated_frames(client, VIDEO_ID, timestamps):
                pass
    assert len(asked) < 10
