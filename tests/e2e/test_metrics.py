"""A running program shows what it does."""

from __future__ import annotations

import re

import pytest

from tests.program import Server

NAMES = (
    "open_videos", "jobs_running", "jobs_waiting", "frame_slots_in_use", "frame_slots_free", "decoders",
    "inference_frames_waiting", "inference_workers", "inference_worker_restarts", "inference_batches_done",
    "inference_frames_done", "inference_frames_in_flight", "inference_busy_seconds", "event_store_waiting_appends",
    "event_store_position", "projection_lag", "projection_running", "projection_parked_events",
    "rebuild_running", "rebuild_progress", "rebuild_events_done", "rebuild_failed",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_every_gauge_has_a_value(server: Server, name: str) -> None:
    async with server.client() as client:
        text = (await client.get("/metrics")).text
    assert re.search(rf"^video_analysis_{name} \d", text, re.MULTILINE)


async def test_a_foreign_name_and_a_foreign_page_are_refused(server: Server) -> None:
    async with server.client() as client:
        assert (await client.get("/", headers={"Host": "evil.example"})).status_code == 421
        answer = await client.post("/analysis/start", headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403
