"""Annotated videos over HTTP, made by real encoder processes of packs on the disk."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from monolith.domain.detection import Detection, ObjectDetection
from monolith.domain.events import SegmentsExpired, VideoDeleted, video_stream
from monolith.domain.segment import ExpiredSegment
from monolith.frames.jpeg import Picture
from tests.annotated import PACK, background, encoders, pictures, stopped_encoder, store_frames, until
from tests.unit.api.harness import Api, annotated_videos, running_api
from tests.unit.readmodels.story import (
    CAR,
    COLORS,
    FACES,
    OBJECTS,
    VIDEO,
    Streamed,
    analysed,
    completed,
    probed,
    submitted,
)

HERE = f"/analysis/{VIDEO}/annotated"
FILE = f"{HERE}.mp4"
BOX = ObjectDetection(class_id=2, class_name="car", confidence=0.9, xyxy=(60.0, 50.0, 120.0, 90.0))
SIZE = (160, 120)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


def story(
    folder: Path,
    frames: int = 6,
    *,
    found: tuple[Detection, ...] = (BOX,),
    models: tuple[str, ...] = (OBJECTS,),
    sizes: tuple[tuple[int, int], ...] = (SIZE,),
    end: bool = True,
) -> list[Streamed]:
    """A video of `frames` frames, 25 a second, each with `found`."""
    numbers = range(1, frames + 1)
    stored = [(n, n / 25, *sizes[(n - 1) % len(sizes)]) for n in numbers]
    return [
        *submitted(models),
        *probed(frames, frames / 25),
        store_frames(folder, stored),
        *(analysed(numbers, key, found=found if key == OBJECTS else None) for key in models),
        *(completed(frames) if end else ()),
    ]


async def made(api: Api, **query: Any) -> dict[str, Any]:
    """Have it made; its state when it is ready or failed."""
    answer = await api.client.post(HERE, params=query)
    assert answer.status_code in (200, 202), answer.text
    if answer.status_code == 202:
        assert answer.headers["retry-after"]
    return await until(api.client, HERE, "ready", "failed", **query)


async def fetched(api: Api, folder: Path, **query: Any) -> list[tuple[float, Picture]]:
    state = await made(api, **query)
    assert state["status"] == "ready", state
    answer = await api.get(state["url"])
    assert answer.status_code == 200
    assert len(answer.content) == state["size_bytes"]
    return pictures(answer.content, folder)


def changed(picture: Picture, number: int) -> Picture:
    """Where a picture differs from the stored one by more than codecs change it: height × width of booleans."""
    height, width = picture.shape[:2]
    difference = np.abs(picture.astype(int) - background(number, width, height).astype(int)).max(axis=2)
    return np.asarray(difference > 40)


async def test_boxes_are_drawn_and_nothing_else_changes(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    found = await fetched(api, tmp_path)
    assert [time for time, _ in found] == [0.04, 0.08, 0.12, 0.16, 0.2, 0.24]
    for number, (_, picture) in enumerate(found, 1):
        where = changed(picture, number)
        assert where[50, 70:110].all(), "the upper edge of the box"
        assert where[60:85, 60].all(), "its left edge"
        assert not where[65:80, 75:105].any(), "inside"
        assert not where[:30].any() and not where[100:].any() and not where[:, 140:].any(), "far away"


async def test_the_file_is_described(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    state = await made(api)
    assert {key: state[key] for key in ("status", "progress", "frames", "error", "complete", "start_time")} == {
        "status": "ready", "progress": 1.0, "frames": 6, "error": None, "complete": True, "start_time": 0.0,
    }  # fmt: skip
    assert state["duration"] == pytest.approx(0.28)
    answer = await api.get(FILE)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == 'attachment; filename="Street-annotated.mp4"'
    again = await api.client.post(HERE)
    assert (again.status_code, again.json()) == (200, state)


async def test_parts_and_conditions(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    await made(api)
    whole = await api.get(FILE)
    size, tag = len(whole.content), whole.headers["etag"]
    part = await api.get(FILE, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}"
    last = await api.get(FILE, headers={"Range": "bytes=-5", "If-Range": tag})
    assert (last.status_code, last.content) == (206, whole.content[-5:])
    other = await api.get(FILE, headers={"Range": "bytes=0-4", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)
    same = await api.get(FILE, headers={"If-None-Match": f'"x", W/{tag}'})
    assert (same.status_code, same.content) == (304, b"")
    for wrong in (f"bytes={size}-", "bytes=9-3", "lines=1-2"):
        refused = await api.get(FILE, headers={"Range": wrong})
        assert refused.status_code == 416
        assert refused.headers["content-range"] == f"bytes */{size}"
        assert f"the file has {size} bytes" in refused.json()["detail"]


async def test_asking_for_the_file_has_it_made(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    assert (await api.get(HERE)).status_code == 404
    answer = await api.get(FILE)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["retry-after"]
    await until(api.client, HERE, "ready")
    assert (await api.get(FILE)).status_code == 200


async def test_pictures_of_other_sizes_are_fitted(api: Api, tmp_path: Path) -> None:
    """The largest counts; a small one is enlarged with its box, a tall one stands between black bars."""
    sizes = ((80, 60), (160, 120), (60, 120), (161, 121))
    box = ObjectDetection(class_id=2, class_name="car", confidence=0.9, xyxy=(30.0, 30.0, 50.0, 50.0))
    await api.happened(*story(tmp_path, 4, sizes=sizes, found=(box,)))
    found = await fetched(api, tmp_path)
    assert {picture.shape for _, picture in found} == {(120, 160, 3)}
    small, _, tall, _ = (picture for _, picture in found)
    assert changed(small, 1)[60, 66:94].all(), "the upper edge, twice as far down"
    assert tall[:, :48].max() < 30 and tall[:, 112:].max() < 30, "black bars"
    assert tall[:, 56:104].mean() > 40


@pytest.mark.parametrize(
    ("query", "times"),
    [
        ({"fps": 2, "speed": 2}, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]),
        ({"from_time": 0.1, "to_time": 0.17}, [0.12, 0.16]),
    ],
)
async def test_speed_rate_and_part_are_chosen(
    api: Api, tmp_path: Path, query: dict[str, Any], times: list[float]
) -> None:
    await api.happened(*story(tmp_path))
    assert [time for time, _ in await fetched(api, tmp_path, **query)] == times


async def test_models_and_confidence_choose_what_is_drawn(api: Api, tmp_path: Path) -> None:
    unsure = less_sure(BOX, confidence=0.1)
    await api.happened(*story(tmp_path, 2, found=(unsure,), models=(OBJECTS, FACES, COLORS)))
    objects_alone = await fetched(api, tmp_path, model=OBJECTS)
    assert not changed(objects_alone[0][1], 1).any()
    all_of_them = await fetched(api, tmp_path, model=OBJECTS, min_confidence=0.05)
    assert changed(all_of_them[0][1], 1)[50, 70:110].all()
    palette = await fetched(api, tmp_path, model=COLORS)
    assert changed(palette[0][1], 1)[:20, 100:].any()


def less_sure(detection: ObjectDetection, confidence: float) -> ObjectDetection:
    return ObjectDetection(
        class_id=detection.class_id,
        class_name=detection.class_name,
        confidence=confidence,
        xyxy=detection.xyxy,
    )


@pytest.mark.parametrize("path", [HERE, FILE])
async def test_what_cannot_be_shown_is_refused(api: Api, path: str) -> None:
    method = "POST" if path == HERE else "GET"
    unknown = await api.client.request(method, path)
    assert unknown.status_code == 404
    await api.happened(*submitted(), *probed(6))
    early = await api.client.request(method, path)
    assert early.status_code == 409
    assert "nothing of this video was analysed yet" in early.json()["detail"]


async def test_an_empty_part_is_refused(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    answer = await api.client.post(HERE, params={"from_time": 100})
    assert answer.status_code == 409
    assert "no analysed frame lies between from_time and to_time" in answer.json()["detail"]


async def test_while_the_analysis_goes_on_it_shows_what_there_is(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path, 3, end=False))
    first = await made(api)
    assert (first["status"], first["frames"], first["complete"]) == ("ready", 3, False)
    more = store_frames(tmp_path, [(n, n / 25, *SIZE) for n in (4, 5)], pack="000000-2.mjpeg")
    await api.happened(more, analysed([4, 5], found=(BOX,)))
    assert (await api.client.post(HERE)).json() == first, "fresh enough to be fetched"
    await api.happened(*completed(5))
    assert (await api.get(HERE)).status_code == 404
    assert (await api.get(first["url"])).status_code == 200, "who watches it may go on"
    whole = await made(api)
    assert (whole["frames"], whole["complete"]) == (5, True)
    assert whole["url"] != first["url"]


async def test_a_killed_encoder_fails_its_video_alone(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    await api.client.post(HERE)
    pid = await stopped_encoder()
    other = (await api.client.post(HERE, params={"speed": 2})).json()
    assert other["status"] in ("queued", "running")
    os.kill(pid, signal.SIGKILL)
    state = await until(api.client, HERE, "failed")
    assert "was killed by signal 9" in state["error"]
    refused = await api.get(FILE)
    assert refused.status_code == 409
    assert "tries again" in refused.json()["detail"]
    assert (await until(api.client, HERE, "ready", speed=2))["frames"] == 6
    assert (await made(api))["status"] == "ready"
    assert not list((tmp_path / "annotating").iterdir())


async def test_it_can_be_cancelled_and_removed(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    await api.client.post(HERE)
    pid = await stopped_encoder()
    assert (await api.client.delete(HERE)).status_code == 204
    assert pid not in encoders()
    assert (await api.get(HERE)).status_code == 404
    assert not list((tmp_path / "annotating").iterdir())
    await made(api)
    folder = tmp_path / "videos" / VIDEO / "annotated"
    assert len(list(folder.iterdir())) == 2
    assert (await api.client.delete(HERE)).status_code == 204
    assert list(folder.iterdir()) == []


async def test_a_pack_that_goes_fails_it_cleanly(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    await api.client.post(HERE)
    pid = await stopped_encoder()
    (tmp_path / "videos" / VIDEO / "packs" / PACK).unlink()
    os.kill(pid, signal.SIGCONT)
    assert "frames expired" in (await until(api.client, HERE, "failed"))["error"]


async def test_segments_that_expire_meanwhile_fail_it_cleanly(api: Api, tmp_path: Path) -> None:
    """Also when all its frames were read before: it would show what is to be forgotten."""
    await api.happened(*story(tmp_path))
    await api.client.post(HERE)
    pid = await stopped_encoder()
    gone = ExpiredSegment(
        segment=0, first_frame=1, last_frame=6, frames_stored=6, decode_nanoseconds=0, resize_nanoseconds=0,
        encode_nanoseconds=0, last_event_at=1.0, runs=(),
    )  # fmt: skip
    expired = SegmentsExpired(video_id=VIDEO, segments=(gone,), older_than=2.0, expired_at=3.0)
    await api.services.read_models._cleaner.stop()  # the rows stay for a while
    await api.happened((video_stream(VIDEO), expired))
    os.kill(pid, signal.SIGCONT)
    assert "frames expired" in (await until(api.client, HERE, "failed"))["error"]
    assert not list((tmp_path / "videos").glob("*/annotated/*"))
    await api.services.read_models.clean()
    assert (await api.client.post(HERE)).status_code in (409, 410)


async def test_a_folder_that_is_removed_meanwhile_is_not_made_again(api: Api, tmp_path: Path) -> None:
    """Retention removes it as soon as the expiry is stored, the read models may be told later."""
    await api.happened(*story(tmp_path))
    await api.client.post(HERE)
    pid = await stopped_encoder()
    folder = tmp_path / "videos" / VIDEO / "annotated"
    async with asyncio.timeout(60):
        while not folder.is_dir():
            await asyncio.sleep(0.01)
    folder.rmdir()
    os.kill(pid, signal.SIGCONT)
    assert "frames expired" in (await until(api.client, HERE, "failed"))["error"]
    assert not folder.exists()


async def test_a_video_that_is_deleted_meanwhile_leaves_nothing(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    await api.client.post(HERE)
    pid = await stopped_encoder()
    await api.happened((video_stream(VIDEO), VideoDeleted(video_id=VIDEO, deleted_at=1.0)))
    os.kill(pid, signal.SIGCONT)
    videos = api.services.annotated
    assert videos is not None
    async with asyncio.timeout(60):
        while videos.running or videos.waiting:
            await asyncio.sleep(0.01)
    assert (await api.get(HERE)).status_code == 404
    assert not list((tmp_path / "videos").glob("*/annotated/*"))
    assert not list((tmp_path / "annotating").iterdir())


async def test_a_damaged_picture_fails_it_with_its_name(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    pack = tmp_path / "videos" / VIDEO / "packs" / PACK
    pack.write_bytes(bytes(pack.stat().st_size))
    error = (await made(api))["error"]
    assert f"frame pack {PACK}" in error
    assert "damaged" in error


async def test_a_full_disk_fails_it_with_its_reason(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path))
    api.room = -1
    assert (await made(api))["error"] == "the disk is full; ask again when there is room"
    api.room = 1 << 40
    assert (await made(api))["status"] == "ready"


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.happened(*story(tmp_path))
        read_models = api.services.read_models
        async with annotated_videos(tmp_path, read_models, at_once=1, waiting=1) as videos:
            api.answer_by(replace(api.services, annotated=videos))
            assert (await api.client.post(HERE)).status_code == 202
            pid = await stopped_encoder()
            assert (await api.client.post(HERE, params={"speed": 2})).json()["status"] == "queued"
            assert (await api.client.post(HERE)).status_code == 202, "the same one is no more"
            full = await api.client.post(HERE, params={"speed": 3})
            assert full.status_code == 429
            assert "2 annotated videos are waiting already" in full.json()["detail"]
            assert full.headers["retry-after"]
            os.kill(pid, signal.SIGCONT)
            await until(api.client, HERE, "ready", speed=2)


async def test_finished_ones_survive_a_restart(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.happened(*story(tmp_path))
        state = await made(api)
        (tmp_path / "annotating" / "half.mp4.part").write_bytes(b"half")
        read_models = api.services.read_models
        async with annotated_videos(tmp_path, read_models) as videos:
            assert not list((tmp_path / "annotating").iterdir())
            assert videos.kept_bytes == state["size_bytes"]
            api.answer_by(replace(api.services, annotated=videos))
            assert (await api.client.post(HERE)).json() == state


async def test_one_larger_than_all_may_be_fails(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.happened(*story(tmp_path, 100))
        async with annotated_videos(tmp_path, api.services.read_models, most_bytes=100) as videos:
            api.answer_by(replace(api.services, annotated=videos))
            assert "annotated videos may take" in (await made(api))["error"]


async def test_leaving_ends_what_is_under_way(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.happened(*story(tmp_path))
        async with annotated_videos(tmp_path, api.services.read_models) as videos:
            api.answer_by(replace(api.services, annotated=videos))
            await api.client.post(HERE)
            pid = await stopped_encoder()
        assert pid not in encoders()
        refused = await api.client.post(HERE)
        assert refused.status_code == 429
    assert not list((tmp_path / "annotating").iterdir())


async def test_a_client_that_goes_away_disturbs_nothing(api: Api, tmp_path: Path) -> None:
    await api.happened(*story(tmp_path, 200, found=(BOX, CAR)))
    await made(api)
    url = f"http://127.0.0.1:{api.server.port}"
    async with httpx.AsyncClient(base_url=url) as other, other.stream("GET", FILE) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_raw(10))
    assert (await api.get(FILE)).status_code == 200
