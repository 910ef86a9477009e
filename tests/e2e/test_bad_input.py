"""What is wrong with a video is told to its user, and nothing else suffers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.files import http_server
from tests.media import sample_clip
from tests.program import until_ended, upload
from tests.videos import Recipe, damage_packets, make_audio, make_video, remux

OBJECTS = ("objects_detection",)


async def analyse(client: httpx.AsyncClient, path: Path, frame_step: int = 1) -> dict[str, Any]:
    video_id = await upload(client, path, frame_step=frame_step, models=("color_detection",))
    return await until_ended(client, video_id)


def text(folder: Path) -> Path:
    path = folder / "notes.mp4"
    path.write_text("This is no video.\n" * 50)
    return path


def without_index(folder: Path) -> Path:
    """An MP4 whose index, at its end, was cut off."""
    whole = make_video(folder)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return whole


def playlist(folder: Path) -> Path:
    path = folder / "clip.mp4"
    path.write_text("#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    return path


def audio(folder: Path) -> Path:
    return make_audio(folder / "song.mp4")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (text, "not a video"),
        (without_index, "no moov atom"),
        (playlist, "not a video"),
        (audio, "no video stream"),
    ],
)
async def test_what_is_no_good_video_fails_and_says_why(
    client: httpx.AsyncClient, tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    body = await analyse(client, make(tmp_path))
    assert body["status"] == "Failed"
    assert told in body["error"]
    assert "Traceback" not in body["error"]
    assert str(tmp_path) not in body["error"]


async def test_an_empty_upload_is_refused(client: httpx.AsyncClient) -> None:
    files = {"file": ("empty.mp4", b"", "video/mp4")}
    answer = await client.post("/analysis/upload", files=files, data={"modelsToRun": "color_detection"})
    assert answer.status_code == 400
    assert "with a video in it" in answer.json()["detail"]


async def test_a_truncated_video_fails_and_keeps_what_was_analysed(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    whole = make_video(tmp_path, Recipe(frames=60))
    cut = remux(whole, tmp_path / "cut.mp4", options={"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    body = await analyse(client, cut)
    assert body["status"] == "Failed"
    assert "truncated" in body["error"]
    assert 20 <= body["frames_analyzed"] < 60
    rows = (await client.get(f"/analysis/{body['video_id']}/results")).json()
    assert len(rows) == body["frames_analyzed"]


async def test_damaged_packets_leave_gaps_and_shift_nothing(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=40, gop=1))
    damage_packets(path, [10, 11])
    body = await analyse(client, path)
    assert body["status"] == "Completed"
    assert (body["frames_analyzed"], body["frames_dropped"]) == (38, 2)
    assert body["coverage"] == pytest.approx(0.95)
    rows = (await client.get(f"/analysis/{body['video_id']}/results")).json()
    assert [row["frame_number"] for row in rows] == [n for n in range(1, 41) if n not in (11, 12)]
    missing = await client.get(f"/analysis/{body['video_id']}/frame/11")
    assert missing.status_code == 404
    assert "10 and 13" in missing.json()["detail"]


async def test_variable_frame_rate_keeps_the_true_times(client: httpx.AsyncClient, tmp_path: Path) -> None:
    recipe = Recipe(frames=12, durations=(40, 200, 10))
    body = await analyse(client, make_video(tmp_path, recipe))
    rows = (await client.get(f"/analysis/{body['video_id']}/results")).json()
    assert [row["video_timestamp"] for row in rows] == pytest.approx([t / 1000 for t in recipe.timestamps()])


async def test_a_rotated_video_is_stored_upright(client: httpx.AsyncClient, tmp_path: Path) -> None:
    body = await analyse(client, make_video(tmp_path, Recipe(frames=3, rotation=90)))
    assert (body["media"]["width"], body["media"]["height"]) == (120, 160)


async def test_a_frame_step_beyond_the_length_says_what_is_right(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    body = await analyse(client, make_video(tmp_path), frame_step=1000)
    assert body["status"] == "Failed"
    assert "use a frameStep of at most 40" in body["error"]


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".webm", ".avi", ".flv"])
async def test_containers(client: httpx.AsyncClient, tmp_path: Path, suffix: str) -> None:
    codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(suffix, "libx264")
    body = await analyse(client, make_video(tmp_path, Recipe(suffix=suffix, codec=codec)), frame_step=4)
    assert body["status"] == "Completed", body["error"]
    rows = (await client.get(f"/analysis/{body['video_id']}/results")).json()
    assert [row["frame_number"] for row in rows] == list(range(4, 41, 4))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/missing.mp4", "404"),
        ("/hang/clip.mp4", "sent nothing for too long"),
        ("/redirect?http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("/redirect?file:///etc/passwd", "file"),
    ],
)
async def test_a_url_that_cannot_be_fetched_fails_and_says_why(
    client: httpx.AsyncClient, tmp_path: Path, path: str, told: str
) -> None:
    async with http_server(tmp_path) as url:
        answer = await client.post("/analysis/start", json={"videoURL": url + path, "modelsToRun": OBJECTS})
        assert answer.status_code == 201
        body = await until_ended(client, answer.json()["video_id"])
    assert body["status"] == "Failed"
    assert told in body["error"]


async def test_a_url_is_fetched_and_analysed(client: httpx.AsyncClient) -> None:
    clip = sample_clip("carphone_pristine.mp4")
    async with http_server(clip.parent) as url:
        request = {"videoURL": f"{url}/{clip.name}", "modelsToRun": OBJECTS, "frameStep": "30"}
        answer = await client.post("/analysis/start", json=request)
        body = await until_ended(client, answer.json()["video_id"])
    assert (body["status"], body["video_name"]) == ("Completed", clip.name)


async def test_a_password_in_a_url_is_used_and_never_shown(client: httpx.AsyncClient) -> None:
    clip = sample_clip("carphone_pristine.mp4")
    async with http_server(clip.parent) as url:
        secret = url.replace("http://", "http://user:hunter2@")
        request = {"videoURL": f"{secret}/{clip.name}", "modelsToRun": OBJECTS, "frameStep": 90}
        answer = await client.post("/analysis/start", json=request)
        video_id = answer.json()["video_id"]
        body = await until_ended(client, video_id)
    assert body["status"] == "Completed"
    events = (await client.get(f"/analysis/{video_id}/events")).text
    assert "hunter2" not in answer.text + str(body) + events


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "JSON"),
        (b"[]", "object"),
        (b'{"videoURL": "http://e.org/a.mp4", "modelsToRun": ["yolo"]}', "unknown model 'yolo'"),
        (b'{"videoURL": "file:///etc/passwd", "modelsToRun": ["color_detection"]}', "file: is not allowed"),
        (
            b'{"videoURL": "http://e.org/a.mp4", "modelsToRun": ["color_detection"], "frameStep": 0}',
            "frameStep",
        ),
    ],
)
async def test_a_wrong_request_is_refused(client: httpx.AsyncClient, body: bytes, told: str) -> None:
    answer = await client.post("/analysis/start", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert told in answer.json()["detail"]


async def test_a_submission_repeated_with_its_key_starts_nothing_new(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = make_video(tmp_path)
    first = await upload(client, path, frame_step=20, models=OBJECTS, key="camera-7")
    assert await upload(client, path, frame_step=20, models=OBJECTS, key="camera-7") == first
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        await upload(client, path, frame_step=10, models=OBJECTS, key="camera-7")
