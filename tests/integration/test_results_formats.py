"""Results over HTTP in every format, timelines and summaries, with analytics files as a projection makes them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from eventsourcing.projection import ProjectionRunner
from monolith.api.services import Limits
from monolith.api.streaming import Turns
from monolith.readmodels.analytics import Analytics, AnalyticsProjection
from monolith.readmodels.table_export import EXPORT_FORMATS
from tests.unit.api.harness import DEADLINE, Api, running_api
from tests.unit.readmodels.segments import CODEC, found_in, whole_segment
from tests.unit.readmodels.story import COLORS, FACES, OBJECTS, RUN, VIDEO, submitted

MODELS = (OBJECTS, FACES, COLORS)
RESULTS = f"/analysis/{VIDEO}/results"
TIMELINE = f"/analysis/{VIDEO}/timeline"
UNKNOWN = "0199aaaa-0000-7000-8000-00000000ffff"
MEDIA_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    **{name: kind.media_type for name, kind in EXPORT_FORMATS.items()},
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A closed segment of four frames, and an open one of three."""
    async with AsyncExitStack() as stack:
        analytics = await Analytics.open(tmp_path / "analytics")
        stack.push_async_callback(analytics.close)
        api = await stack.enter_async_context(running_api(tmp_path, analytics=analytics))
        files = AnalyticsProjection(analytics, api.store, CODEC)
        runner = await stack.enter_async_context(ProjectionRunner(api.store, files))
        opened = [found_in(range(5, 8), 1, model) for model in MODELS]
        position = await api.happened(*submitted(MODELS), *whole_segment(0, MODELS), *opened)
        await runner.wait_for(position, DEADLINE)
        assert files.segments == 1
        yield api


async def body(api: Api, path: str, **parameters: Any) -> Any:
    answer = await api.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_ndjson_has_the_rows_of_json_one_a_line(api: Api) -> None:
    for wanted in ({}, {"min_confidence": 0}, {"label": "car"}, {"from_frame": 3, "to_frame": 6}):
        answer = await api.get(RESULTS, params={"format": "ndjson", **wanted})
        assert [json.loads(line) for line in answer.text.splitlines()] == await body(api, RESULTS, **wanted)
        assert answer.text.endswith("}\n")


async def test_json_is_what_it_was(api: Api) -> None:
    """The bytes of the rows, joined: nothing of formats shows."""
    text = (await api.get(RESULTS, params={"format": "json"})).text
    ndjson = (await api.get(RESULTS, params={"format": "ndjson"})).text
    assert text == f"[{','.join(ndjson.splitlines())}]" == (await api.get(RESULTS)).text


async def test_nothing_found_is_an_empty_answer(api: Api) -> None:
    wanted = {"from_frame": 1000}
    assert (await api.get(RESULTS, params={"format": "json", **wanted})).text == "[]"
    assert (await api.get(RESULTS, params={"format": "ndjson", **wanted})).text == ""
    text = (await api.get(RESULTS, params={"format": "csv", **wanted})).text
    assert text.count("\n") == 1


async def test_pages_of_ndjson_are_linked(api: Api) -> None:
    lines: list[str] = []
    path: str | None = f"{RESULTS}?format=ndjson&limit=5"
    while path:
        answer = await api.get(path)
        lines += answer.text.splitlines()
        path = answer.links.get("next", {}).get("url")
    assert [json.loads(line) for line in lines] == await body(api, RESULTS)


async def test_a_file_has_a_line_for_each_entry_of_the_rows(api: Api) -> None:
    rows = await body(api, RESULTS)
    answer = await api.get(RESULTS, params={"format": "csv"})
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    entries = [
        (row["frame_number"], row["inference_model"]) for row in rows for _ in row["inference_results"]
    ]
    assert [(int(line["frame_number"]), line["model"]) for line in lines] == entries
    assert {line["run_id"] for line in lines} == {RUN}
    assert [line["label"] for line in lines if line["model"] == "Object Detection"] == ["car"] * 7


async def test_the_accept_header_decides_where_no_format_is_named(api: Api) -> None:
    for name, media_type in MEDIA_TYPES.items():
        named = await api.get(RESULTS, params={"format": name})
        accepted = await api.get(RESULTS, headers={"Accept": f"text/plain, {media_type};q=0.5"})
        assert named.headers["content-type"].partition(";")[0] == media_type
        assert accepted.headers["content-type"] == named.headers["content-type"]
        assert accepted.content == named.content
        assert named.headers["vary"] == "Accept"


ACCEPTED = [
    ("*/*", "json"),
    ("text/html,application/xhtml+xml,*/*;q=0.8", "json"),
    ("text/csv;q=0.2, application/x-ndjson;q=0.9", "ndjson"),
    ("text/csv;q=0, application/json;q=0.1", "json"),
    ("text/csv;q=nonsense", "json"),
    ("image/png", "json"),
    ("application/*, text/csv;q=0.5", "json"),
    ("TEXT/CSV", "csv"),
]
"""Accept header → the format that comes."""


async def test_the_most_wanted_kind_that_there_is_comes(api: Api) -> None:
    for accept, expected in ACCEPTED:
        answer = await api.get(RESULTS, headers={"Accept": accept})
        assert answer.headers["content-type"].partition(";")[0] == MEDIA_TYPES[expected], accept


async def test_a_file_has_a_name_and_a_length_and_no_pages(api: Api) -> None:
    for form, kind in EXPORT_FORMATS.items():
        answer = await api.get(RESULTS, params={"format": form})
        assert answer.headers["content-disposition"] == f'attachment; filename="Street{kind.ending}"'
        assert int(answer.headers["content-length"]) == len(answer.content)
        for name in ("limit", "cursor"):
            answer = await api.get(RESULTS, params={"format": form, name: 5})
            assert (answer.status_code, answer.json()["field"]) == (400, name)
            assert f"{name} is for rows (format json or ndjson)" in answer.json()["detail"]


async def test_an_unknown_format_is_refused_with_those_there_are(api: Api) -> None:
    answer = await api.get(RESULTS, params={"format": "xml"})
    assert answer.status_code == 400
    assert "format takes: json, ndjson, csv, parquet, arrow" in answer.json()["detail"]


async def test_an_unknown_video_is_404_in_every_format(api: Api) -> None:
    for name in MEDIA_TYPES:
        answer = await api.get(f"/analysis/{UNKNOWN}/results", params={"format": name})
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_full_disk_makes_no_file(tmp_path: Path) -> None:
    async def full() -> str | None:
        return "the disk is full"

    async with running_api(tmp_path, no_room=full) as api:
        await api.happened(*submitted())
        answer = await api.get(RESULTS, params={"format": "parquet"})
        assert (answer.status_code, answer.json()["detail"]) == (507, "the disk is full")


async def test_a_client_that_goes_away_leaves_nothing(api: Api) -> None:
    """It takes the head of the answer and leaves: the server stays well, and no file is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(f"GET {RESULTS}?format=csv HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert b"200 OK" in await reader.readline()
    writer.transport.abort()
    for name in EXPORT_FORMATS:
        assert (await api.get(RESULTS, params={"format": name})).status_code == 200
    assert api.services.analytics is not None
    assert list(api.services.analytics.scratch.iterdir()) == []


async def test_many_exports_at_once_are_all_answered(api: Api) -> None:
    answers = await asyncio.gather(
        *(api.get(RESULTS, params={"format": "parquet"}) for _ in range(12)),
        *(api.get(TIMELINE) for _ in range(12)),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert {pl.read_parquet(io.BytesIO(answer.content)).height for answer in answers[:12]} == {7 * 5}


async def test_exported_files_are_bounded(tmp_path: Path) -> None:
    """Each is on the disk until its client has all of it, or goes."""
    async with running_api(tmp_path, limits=Limits(exports=2)) as api:
        await api.happened(*submitted(MODELS), found_in(range(1, 5), 0))
        turns: Turns = api.app.state.export_turns
        files = (*(f"{RESULTS}?format={name}" for name in EXPORT_FORMATS), f"/analysis/{VIDEO}/coco.json")
        with turns.take(), turns.take():
            for path in files:
                refused = await api.get(path)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
                assert (
                    refused.json()["detail"] == "all 2 places for exported files are taken; try again later"
                )
            assert (await api.get(RESULTS)).status_code == 200
        for path in files:
            assert (await api.get(path)).status_code == 200
        assert (await api.get(f"/analysis/{UNKNOWN}/results?format=csv")).status_code == 404
        async with asyncio.timeout(DEADLINE):
            while turns.taken:
                await asyncio.sleep(0.01)


async def test_without_analytics_files_everything_comes_from_the_rows(api: Api, tmp_path: Path) -> None:
    with_files = [await body(api, TIMELINE), await body(api, f"/analysis/{VIDEO}/summary")]
    (tmp_path / "other").mkdir()
    async with running_api(tmp_path / "other") as other:
        opened = [found_in(range(5, 8), 1, model) for model in MODELS]
        await other.happened(*submitted(MODELS), *whole_segment(0, MODELS), *opened)
        assert [await body(other, TIMELINE), await body(other, f"/analysis/{VIDEO}/summary")] == with_files


async def test_a_timeline_over_http(api: Api) -> None:
    found = await body(api, TIMELINE, bucket=0.16, model="objects_detection")
    assert found["bucket"] == 0.16
    assert found["runs"] == [{"run_id": RUN, "models": ["Object Detection"]}]
    assert [bucket["frames"] for bucket in found["buckets"]] == [3, 4]
    assert found["buckets"][0] == {
        "time": 0.0, "frames": 3, "objects": {"car": {"detections": 3, "greatest": 1}}, "faces": None,
        "emotions": {}, "colors": [],
    }  # fmt: skip


async def test_a_bucket_that_is_none_is_refused(api: Api) -> None:
    for bucket in ("0", "-1", "nan", "inf", "often", "", "1e12"):
        answer = await api.get(TIMELINE, params={"bucket": bucket})
        assert (answer.status_code, answer.json()["field"]) == (400, "bucket")
        assert "bucket takes a number of seconds from 0.001, such as 10, or auto" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["timeline", "summary"])
async def test_wrong_questions_are_refused(api: Api, path: str) -> None:
    for name, value in (("run", "x"), ("model", "x"), ("min_confidence", "2")):
        answer = await api.get(f"/analysis/{VIDEO}/{path}", params={name: value})
        assert (answer.status_code, answer.json()["field"]) == (400, name)
    assert (await api.get(f"/analysis/{UNKNOWN}/{path}")).status_code == 404


async def test_a_summary_over_http(api: Api) -> None:
    found = await body(api, f"/analysis/{VIDEO}/summary")
    assert (found["video_name"], found["status"]) == ("Street", "Pending")
    assert [(one["label"], one["frames"]) for one in found["objects"]] == [("car", 7)]
    assert [one["model"] for one in found["models"]] == sorted(
        ["Color Palette Detection", "Joy Detection", "Object Detection"]
    )
    assert [run["run_id"] for run in found["runs"]] == [RUN]
    assert found["palette"]["frames"] == 7
    assert found["emotions"][0]["emotion"] == "happy"
