from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from monolith.cli.annotated import Folder, is_video, write_annotated_video
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from tests.unit.cli.rows import VIDEO_ID

PATH = f"/analysis/{VIDEO_ID}/annotated"
STATE: dict[str, Any] = {
    "status": "running", "progress": 0.5, "frames": 5, "url": None, "error": None, "complete": None,
    "size_bytes": None, "something_new": 1,
}  # fmt: skip
READY = STATE | {
    "status": "ready",
    "progress": 1.0,
    "frames": 10,
    "url": f"https://public.example.org{PATH}.mp4?version=1",
    "complete": True,
}
DATA = bytes(range(256)) * (20 * 4096)  # more than two parts


class Api:
    """Answers as the API does: `states` one after another, then the file in parts."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states: Iterator[dict[str, Any]] = iter(states)
        self.asked: list[str] = []
        self.tags = iter(["a"] * 100)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post(PATH)
        @app.get(PATH)
        async def state(request: Request) -> dict[str, Any]:
            self.asked.append(f"{request.method} {request.url.query}")
            return next(self.states)

        @app.get(f"{PATH}.mp4")
        async def video(request: Request) -> Response:
            first, last = (int(n) for n in request.headers["range"].removeprefix("bytes=").split("-"))
            self.asked.append(f"{first}-{last} {request.url.query}")
            part = DATA[first : last + 1]
            headers = {
                "etag": next(self.tags),
                "content-range": f"bytes {first}-{first + len(part) - 1}/{len(DATA)}",
            }
            return Response(part, 206, headers=headers)

        return app


@contextmanager
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr("monolith.cli.annotated._POLL_SECONDS", 0.001)
        yield


async def write(api: Api, path: Path, options: Sequence[tuple[str, str]] = ()) -> list[tuple[float, int]]:
    """What the progress was."""
    seen: list[tuple[float, int]] = []
    transport = httpx.ASGITransport(api.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        client = AnalysisClient(http)
        await write_annotated_video(
            client, VIDEO_ID, path, lambda done, frames: seen.append((done, frames)), options
        )
    return seen


async def test_it_is_asked_for_watched_and_fetched_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(STATE | {"status": "queued", "progress": 0.0, "frames": 0}, STATE, READY)
    path = tmp_path / "new" / "annotated.mp4"
    with quick(monkeypatch):
        seen = await write(api, path, [("model", "a"), ("model", "b")])
    assert seen == [(0.0, 0), (0.5, 5), (1.0, 10)]
    assert api.asked[:3] == [f"{method} model=a&model=b" for method in ("POST", "GET", "GET")]
    assert api.asked[3:] == [
        "0-8388607 version=1", "8388608-16777215 version=1", "16777216-25165823 version=1",
    ]  # fmt: skip
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


async def test_a_failure_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    api = Api(STATE | {"status": "failed", "error": "frames expired"})
    with pytest.raises(CliError, match="frames expired") as caught:
        await write(api, tmp_path / "annotated.mp4")
    assert caught.value.code is Exit.FAILED
    assert list(tmp_path.iterdir()) == []


async def test_parts_of_two_files_are_not_mixed(tmp_path: Path) -> None:
    api = Api(READY)
    api.tags = iter("ab")
    with pytest.raises(CliError, match="changed while it was fetched; try again"):
        await write(api, tmp_path / "annotated.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_mp4_is_a_video_anything_else_a_folder(tmp_path: Path) -> None:
    assert is_video(Path("a.mp4"))
    assert is_video(Path("a.MP4"))
    assert not is_video(Path("frames"))
    folder = Folder(tmp_path / "new" / "frames")
    folder.write(7, b"seven")
    folder.write(12, b"twelve")
    found = {path.name: path.read_bytes() for path in (tmp_path / "new" / "frames").iterdir()}
    assert found == {"00000007.jpg": b"seven", "00000012.jpg": b"twelve"}
