"""COCO and WebVTT over HTTP: filters, runs, long videos, analyses that go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import webvtt

from monolith.api.file_names import attachment, file_name
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import (
    CAR,
    COLORS,
    FACES,
    OBJECTS,
    RUN,
    SECOND_RUN,
    UNSURE,
    VIDEO,
    analysed,
    completed,
    requested,
    stored,
    submitted,
    whole_video,
)

COCO = f"/analysis/{VIDEO}/coco.json"
VTT = f"/analysis/{VIDEO}/subtitles.vtt"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


async def coco(api: Api, **query: Any) -> dict[str, Any]:
    answer = await api.get(COCO, params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document: dict[str, Any] = answer.json()
    return document


async def cues(api: Api, **query: Any) -> list[tuple[str, str, str]]:
    answer = await api.get(VTT, params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/vtt; charset=utf-8")
    return [(cue.start, cue.end, cue.text) for cue in webvtt.from_string(answer.text).captions]


async def test_a_long_video_comes_whole_in_pages(api: Api, tmp_path: Path) -> None:
    await api.happened(*whole_video((COLORS, FACES, OBJECTS), frames=1000))
    document = await coco(api)
    assert [image["id"] for image in document["images"]] == list(range(1, 1001))
    assert [one["id"] for one in document["annotations"]] == list(range(1, 2001))
    assert document["info"]["run_ids"] == [RUN]
    base = f"http://127.0.0.1:{api.server.port}/analysis/{VIDEO}"
    assert document["info"]["url"] == base
    assert document["images"][0]["coco_url"] == f"{base}/frame/1?annotated=false"
    assert await cues(api) == [("00:00:00.040", "00:00:40.040", "car\nface: happy")]
    assert len(await cues(api, kind="metadata")) == 1000
    assert not list((tmp_path / "uploads").iterdir()), "the images waited in a nameless file"


@pytest.mark.parametrize(
    ("query", "images", "annotations"),
    [
        ({"model": OBJECTS}, 10, 10),
        ({"model": "Object Detection", "min_confidence": 0.1}, 10, 20),
        ({"from_frame": 3, "to_frame": 5}, 3, 6),
        ({"from_time": 0.1, "to_time": 0.2}, 3, 6),
        ({"label": "happy"}, 10, 10),
        ({"label": "horse"}, 0, 0),
        ({"run": RUN}, 10, 20),
        ({"model": COLORS}, 10, 0),
    ],
)
async def test_filters_are_those_of_results(
    api: Api, query: dict[str, Any], images: int, annotations: int
) -> None:
    await api.happened(*whole_video((COLORS, FACES, OBJECTS), frames=10))
    document = await coco(api, **query)
    assert (len(document["images"]), len(document["annotations"])) == (images, annotations)


async def test_a_run_of_another_video_is_not_found(api: Api) -> None:
    await api.happened(*whole_video((OBJECTS,), frames=3))
    answer = await api.get(COCO, params={"run": SECOND_RUN})
    assert answer.status_code == 404
    assert SECOND_RUN in answer.json()["detail"]


async def test_cues_are_filtered(api: Api) -> None:
    await api.happened(*whole_video((COLORS, FACES, OBJECTS), frames=10))
    assert [text for *_, text in await cues(api, model=FACES)] == ["face: happy"]
    assert [text for *_, text in await cues(api, model=OBJECTS, min_confidence=0)] == ["car, person"]
    assert await cues(api, from_time=0.1, to_time=0.2) == [
        ("00:00:00.120", "00:00:00.240", "car\nface: happy")
    ]
    assert [text for *_, text in await cues(api, model=COLORS)] == ["#102030 50%, #405060 30%, #708090 20%"]
    assert await cues(api, label="horse") == []


async def test_a_label_that_comes_and_goes_is_said_only_while_it_is_there(api: Api) -> None:
    await api.happened(
        *submitted(), stored(range(1, 11)), analysed([1, 2], found=(CAR,)), analysed([3, 4, 5], found=()),
        analysed([6, 7], found=(CAR, UNSURE)), analysed([8, 9, 10], found=()), *completed(10),
    )  # fmt: skip
    assert [(start, end) for start, end, _ in await cues(api, label="car")] == [
        ("00:00:00.040", "00:00:00.120"),
        ("00:00:00.240", "00:00:00.320"),
    ]


async def test_models_of_several_runs_are_one_document(api: Api) -> None:
    second = [requested((FACES,), 5, run_id=SECOND_RUN), analysed([5, 10], FACES, run_id=SECOND_RUN)]
    await api.happened(*whole_video((OBJECTS,), frames=10), *second, *completed(2, SECOND_RUN))
    document = await coco(api)
    assert (len(document["images"]), len(document["annotations"])) == (10, 12)
    assert document["info"]["run_ids"] == [RUN, SECOND_RUN]


async def test_nothing_analysed_is_an_empty_document(api: Api) -> None:
    await api.happened(*submitted())
    assert (await coco(api))["images"] == []
    assert await cues(api) == []
    assert (await api.get(VTT)).text.startswith("WEBVTT\n\nNOTE Street")


@pytest.mark.parametrize("path", [COCO, VTT])
async def test_what_is_wrong_is_said(api: Api, path: str) -> None:
    assert (await api.get(path)).status_code == 404
    await api.happened(*submitted())
    for query in ({"model": "cats"}, {"run": "x"}, {"min_confidence": 2}, {"from_frame": -1}):
        assert (await api.get(path, params=query)).status_code == 400
    assert (await api.get(VTT, params={"kind": "karaoke"})).status_code == 400


async def test_names_of_files_are_safe_anywhere(api: Api) -> None:
    await api.happened(*submitted())
    assert (await api.get(COCO)).headers["content-disposition"] == 'attachment; filename="Street.coco.json"'
    assert (await api.get(VTT)).headers["content-disposition"] == 'inline; filename="Street.vtt"'
    assert file_name('a/b\\c:"d"\n.mp4', ".vtt") == "a_b_c__d__.vtt"
    assert file_name("..", ".vtt") == "video.vtt"
    assert file_name("v" * 500, ".vtt") == "v" * 100 + ".vtt"
    assert attachment("straße.mp4", ".vtt") == "attachment; filename*=utf-8''stra%C3%9Fe.vtt"
