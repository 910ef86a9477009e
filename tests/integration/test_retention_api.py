"""Retention over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from monolith.application.retention_report import RetentionRequest
from monolith.application.retention_schedule import RetentionPlan, RetentionSchedule
from monolith.metrics import ReadingsCollector, retention_readings
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import OBJECTS, VIDEO, whole_video

WAIT = 60.0
UNKNOWN = "0199aaaa-0000-7000-8000-00000000000f"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        await running.happened(*whole_video((OBJECTS,), frames=10))
        yield running


async def ask(api: Api, **body: object) -> dict[str, Any]:
    """The report at its end."""
    answer = await api.client.post("/retention", json=body)
    assert answer.status_code in (200, 202), answer.text
    report: dict[str, Any] = answer.json()
    async with asyncio.timeout(WAIT):
        while report["state"] == "running":
            await asyncio.sleep(0.01)
            report = (await api.get("/retention")).json()["last"]
    return report


async def test_before_the_first(api: Api) -> None:
    assert (await api.get("/retention")).json() == {"running": False, "last": None, "schedule": None}


async def test_it_looks_and_lets_go(api: Api) -> None:
    assert (await ask(api, days=1))["segments"] == 0
    dry = await ask(api, days=0, dry_run=True)
    assert (dry["dry_run"], dry["videos"], dry["segments"], dry["frames"]) == (True, 1, 1, 10)
    assert (await api.get(f"/analysis/{VIDEO}")).json()["expired_segments"] == 0
    before = datetime.now(UTC)
    report = await ask(api, days=0)
    assert report["state"] == "done"
    assert report["by_video"] == [
        {"video_id": VIDEO, "video_name": "Street", "segments": 1, "frames": 10, "bytes_freed": 0}
    ]
    assert (report["segments_purged"], report["progress"], report["error"]) == (1, 1.0, None)
    assert datetime.fromisoformat(report["older_than"]) >= before
    assert report["started"] <= report["ended"]
    state = (await api.get("/retention")).json()
    assert (state["running"], state["last"]) == (False, report)


async def test_a_video_that_expired_is_still_there_with_its_sums(api: Api) -> None:
    metrics = (await api.get(f"/analysis/{VIDEO}/metrics")).json()
    before = (await api.get(f"/analysis/{VIDEO}")).json()
    await ask(api, days=0)
    after = (await api.get(f"/analysis/{VIDEO}")).json()
    assert after == {**before, "expired_segments": 1, "frames_expired": 10}
    assert (after["status"], after["frames_analyzed"], after["greatest_frame_analyzed"]) == (
        "Completed",
        10,
        10,
    )
    assert (await api.get(f"/analysis/{VIDEO}/metrics")).json() == metrics
    assert (await api.get(f"/analysis/{VIDEO}/results")).json() == []
    assert [video["video_id"] for video in (await api.get("/analysis/videos")).json()] == [VIDEO]


@pytest.mark.parametrize("path", ["frame/3", "frame/3/results"])
async def test_a_frame_that_expired_is_gone_for_good(api: Api, path: str) -> None:
    await ask(api, days=0)
    answer = await api.get(f"/analysis/{VIDEO}/{path}")
    assert answer.status_code == 410
    problem = answer.json()
    assert problem["type"] == "urn:video-analysis:problem:frame-expired"
    assert problem["detail"].startswith("frame 3 is gone: segment 0 of the video expired at ")
    assert (await api.get(f"/analysis/{VIDEO}/{path.replace('3', '11')}")).status_code == 404


async def test_what_is_to_be_kept_is(api: Api) -> None:
    assert (await ask(api, days=0, keep=[VIDEO.upper()]))["segments"] == 0
    assert (await api.get(f"/analysis/{VIDEO}/results")).json()


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ({}, "days", "days must be a number from 0 to 36500, such as 30"),
        ({"days": "30"}, "days", "days must be a number from 0 to 36500, such as 30"),
        ({"days": True}, "days", "days must be a number from 0 to 36500, such as 30"),
        ({"days": -0.5}, "days", "days must be a number from 0 to 36500, not -0.5; fractions are right"),
        ({"days": 1, "dry_run": 1}, "dry_run", "dry_run must be true or false"),
        ({"days": 1, "keep": VIDEO}, "keep", "keep must be a list of video ids"),
        ({"days": 1, "keep": ["x"]}, "keep", "keep: 'x' is not the id of a video, a UUID in lower case"),
        ({"days": 1, "keep": [UNKNOWN]}, "keep",
         f"keep: there is no video {UNKNOWN}; GET /analysis/videos?status=all lists those that there are"),
        ({"days": 1, "dryrun": True}, "dryrun", "'dryrun' is no part of it; it takes days, dry_run and keep"),
    ],
)  # fmt: skip
async def test_wrong_requests(api: Api, body: dict[str, object], field: str, detail: str) -> None:
    answer = await api.client.post("/retention", json=body)
    assert (answer.status_code, answer.json()["field"], answer.json()["detail"]) == (400, field, detail)
    assert (await api.get("/retention")).json()["last"] is None


async def test_a_body_that_is_no_json(api: Api) -> None:
    for content in (b"", b"[]", b"{"):
        answer = await api.client.post("/retention", content=content)
        assert (answer.status_code, answer.json()["type"]) == (
            400,
            "urn:video-analysis:problem:invalid-request",
        )


async def test_a_second_one_waits_for_the_first(api: Api) -> None:
    answers = await asyncio.gather(*(api.client.post("/retention", json={"days": 0}) for _ in range(3)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[1:] == [409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["detail"] == "a retention runs already; start another when it has ended"


async def test_the_schedule_is_told(api: Api) -> None:
    assert api.services.retention is not None
    request = RetentionRequest(days=2.5, keep=frozenset([VIDEO]))
    async with RetentionSchedule(
        api.services.retention, RetentionPlan(request=request, at=time(3, 30)), lambda: 0.0
    ) as schedule:
        api.answer_by(replace(api.services, retention_schedule=schedule))
        told = (await api.get("/retention")).json()["schedule"]
    assert (told["days"], told["at"], told["keep"]) == (2.5, "03:30", [VIDEO])
    assert datetime.fromisoformat(told["next"]).astimezone().time() == time(3, 30)


async def test_a_retention_that_fails_is_an_error(api: Api) -> None:
    await api.services.read_models.close()
    answer = await api.client.post("/retention", json={"days": 1})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:video-analysis:problem:retention-failed")
    assert answer.json()["detail"] == "the read models are closed"


async def test_metrics_tell_of_the_last_one(api: Api) -> None:
    assert api.services.retention is not None
    registry = CollectorRegistry()
    ReadingsCollector(registry, retention_readings(api.services.retention))

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"video_analysis_retention_{name}")

    names = ("running", "progress", "failed", "bytes_freed", "ended_timestamp_seconds")
    assert [value(name) for name in names] == [0.0] * 5
    await ask(api, days=0)
    assert [value(name) for name in names[:4]] == [0.0, 1.0, 0.0, 0.0]
    assert (value("ended_timestamp_seconds") or 0.0) > 1_700_000_000
    await api.services.read_models.close()
    await api.client.post("/retention", json={"days": 1})
    assert value("failed") == 1.0
