"""A running program shows what it does: scraped while it works, by the parser that Prometheus' own library has."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.files import http_server
from tests.media import sample_clip
from tests.program import ALL_MODELS, Server, until_ended, upload
from tests.videos import make_video

FOREIGN = ("process_", "python_", "http_")
UNITS = ("_seconds", "_bytes", "_ratio")
STEPS = 25
"""Frames of `bikes.mp4` at every tenth."""


class Scrape:
    """Families by name, and values by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.values[f"video_analysis_{name}", frozenset(labels.items())]

    def grown(self, before: Scrape, name: str, **labels: str) -> float:
        key = f"video_analysis_{name}", frozenset(labels.items())
        return self.values[key] - before.values.get(key, 0.0)


async def scrape(client: httpx.AsyncClient) -> Scrape:
    answer = (await client.get("/metrics")).raise_for_status()
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape(answer.text)


async def until_open(client: httpx.AsyncClient, videos: int) -> None:
    """So many have something left to do."""
    async with asyncio.timeout(60):
        while (await scrape(client)).value("open_videos") != videos:
            await asyncio.sleep(0.05)


async def test_an_open_video_is_counted_until_it_is_none(client: httpx.AsyncClient, tmp_path: Path) -> None:
    await until_open(client, 0)
    async with http_server(tmp_path) as files:
        body = {"videoURL": f"{files}/hang/clip.mp4", "modelsToRun": ["color_detection"]}
        video_id = (await client.post("/analysis/start", json=body)).raise_for_status().json()["video_id"]
        await until_open(client, 1)
        await client.post(f"/analysis/{video_id}/cancel")
        await until_open(client, 0)


async def test_an_analysis_moves_every_number_that_it_must(client: httpx.AsyncClient) -> None:
    await until_open(client, 0)
    before = await scrape(client)
    video_id = await upload(client, sample_clip("bikes.mp4"), frame_step=10)
    await until_ended(client, video_id)
    after = await scrape(client)
    for model in ALL_MODELS:
        assert after.grown(before, "frames_analysed_total", model=model) == STEPS
        assert after.grown(before, "inference_seconds_count", model=model) == STEPS
        assert after.grown(before, "inference_seconds_sum", model=model) > 0
        assert after.grown(before, "inference_wait_seconds_count", model=model) == STEPS
    for stage in ("decode", "resize", "encode"):
        assert after.grown(before, "stage_seconds_count", stage=stage) == STEPS
    assert after.grown(before, "stage_seconds_count", stage="probe") == 1
    events = (await client.get(f"/analysis/{video_id}/events")).json()
    assert after.grown(before, "stage_seconds_count", stage="append") > 5
    assert after.grown(before, "stage_seconds_count", stage="project") > 0
    assert after.grown(before, "runs_ended_total", end="completed") == 1
    assert after.grown(before, "segment_attempts_ended_total", end="completed") >= 1
    assert after.grown(before, "events_appended_total", type="RunCompleted") == 1
    assert after.grown(before, "inference_frames_total") == STEPS * len(ALL_MODELS)
    assert after.grown(before, "inference_busy_seconds_total") > 0
    assert after.grown(before, "event_store_position") >= len(events)
    assert after.value("decoder_starts_total") >= 1
    assert after.value("projection_lag_seconds", projection="read-models") < 30


async def test_a_fetch_is_timed_and_failures_are_counted(client: httpx.AsyncClient, tmp_path: Path) -> None:
    before = await scrape(client)
    clip = make_video(tmp_path)
    (tmp_path / "notes.mp4").write_text("no video\n" * 1000)
    async with http_server(tmp_path) as files:
        for name in (clip.name, "notes.mp4"):
            body = {"videoURL": f"{files}/{name}", "modelsToRun": ["color_detection"]}
            answer = (await client.post("/analysis/start", json=body)).raise_for_status()
            await until_ended(client, answer.json()["video_id"])
    after = await scrape(client)
    assert after.grown(before, "stage_seconds_count", stage="fetch") == 2
    assert after.grown(before, "fetched_bytes_total") >= clip.stat().st_size
    assert after.grown(before, "runs_ended_total", end="failed") == 1


async def test_every_family_keeps_the_rules(client: httpx.AsyncClient) -> None:
    """https://prometheus.io/docs/practices/naming"""
    found = await scrape(client)
    ours = [family for name, family in found.families.items() if not name.startswith(FOREIGN)]
    assert len(ours) > 40
    assert {family.name: flaw for family in ours if (flaw := flaw_of(family)) is not None} == {}


def flaw_of(family: Metric) -> str | None:
    if not family.documentation or family.documentation.endswith("."):
        return "no help, or one that ends with a stop"
    if not re.fullmatch(r"(video_analysis_)?[a-z][a-z0-9_]*", family.name):
        return "no plain name"
    if family.type == "unknown":
        return "no type"
    if family.type == "histogram" and not family.name.endswith(UNITS):
        return "no unit"
    if family.type == "counter" and not all(s.name.endswith(("_total", "_created")) for s in family.samples):
        return "a counter without _total"
    if family.type == "gauge" and family.name.endswith("_total"):
        return "a gauge with _total"
    if len(family.samples) > 400 and family.type != "histogram":
        return "too many label values"
    if any(
        re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", value) for s in family.samples for value in s.labels.values()
    ):
        return "an id as a label"
    return None


@pytest.mark.parametrize("path", ["/health/live", "/health/startup", "/health/ready"])
async def test_a_sound_program_is_alive_started_and_ready(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_a_foreign_name_and_a_foreign_page_are_refused(server: Server) -> None:
    async with server.client() as client:
        assert (await client.get("/", headers={"Host": "evil.example"})).status_code == 421
        answer = await client.post("/analysis/start", headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403
