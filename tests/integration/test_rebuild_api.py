"""Rebuilds over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from monolith.readmodels.rebuilding import Progress
from monolith.readmodels.rebuilds import Rebuilds
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import COLORS, OBJECTS, VIDEO, whole_video

WAIT = 60.0


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        await running.happened(*whole_video((COLORS, OBJECTS), frames=30))
        yield running


async def until_ended(client: httpx.AsyncClient) -> dict[str, Any]:
    async with asyncio.timeout(WAIT):
        while True:
            status: dict[str, Any] = (await client.get("/rebuild")).json()
            if status["state"] != "running":
                return status
            await asyncio.sleep(0.01)


async def test_it_is_started_watched_and_done(api: Api) -> None:
    idle = (await api.get("/rebuild")).json()
    assert (idle["state"], idle["projections"], idle["rebuildable"]) == ("idle", [], ["read-models"])
    before = (await api.get(f"/analysis/{VIDEO}/results")).json()
    answer = await api.client.post("/rebuild")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    ended = await until_ended(api.client)
    events = len(await api.store.read_all())
    assert (ended["state"], ended["progress"], ended["error"]) == ("completed", 1.0, None)
    assert ended["projections"] == [
        {"projection": "read-models", "state": "completed", "events_done": events, "events_total": events}
    ]
    assert ended["started"] <= ended["ended"]
    assert api.services.read_models.generation == 1
    assert (await api.get(f"/analysis/{VIDEO}/results")).json() == before
    assert len(before) == 60


async def test_a_name_that_there_is_not(api: Api) -> None:
    answer = await api.client.post("/rebuild", params={"projection": ["read-models", "video"]})
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["detail"] == "there is no projection 'video'; those that can be rebuilt are: read-models"
    assert problem["field"] == "projection"
    assert (await api.get("/rebuild")).json()["state"] == "idle"


class Endless:
    """Never done."""

    name = "endless"

    async def rebuild(self, progress: Progress) -> int:
        progress(3, 4)
        await asyncio.Event().wait()
        return 4


async def test_one_at_a_time(tmp_path: Path) -> None:
    rebuilds = Rebuilds([Endless()], clock=time.time)
    async with running_api(tmp_path, rebuilds=rebuilds) as api:
        assert (await api.client.post("/rebuild?projection=endless")).status_code == 202
        while (await api.get("/rebuild")).json()["progress"] != 0.75:
            await asyncio.sleep(0.01)
        answer = await api.client.post("/rebuild")
        assert answer.status_code == 409
        assert answer.json()["detail"] == (
            "a rebuild of endless is running (75% done); start another when it has ended"
        )
        await rebuilds.close()
        ended = (await api.get("/rebuild")).json()
        assert (ended["state"], ended["error"]) == ("failed", "interrupted")


async def test_nobody_notices_while_it_is_rebuilt(api: Api) -> None:
    """Reads and writes go on through several exchanges; each write is seen by the read that follows."""
    done = asyncio.Event()

    async def use(number: int) -> int:
        turns = 0
        while not done.is_set() or turns < 5:
            turns += 1
            body = {"videoURL": f"http://example.org/{number}-{turns}.mp4", "modelsToRun": [OBJECTS]}
            started = await api.client.post("/analysis/start", json=body)
            assert started.status_code == 201, started.text
            status = await api.get(f"/analysis/{started.json()['video_id']}")
            assert status.status_code == 200, status.text
            rows = await api.get(f"/analysis/{VIDEO}/results")
            assert (rows.status_code, len(rows.json())) == (200, 60)
            assert (await api.get("/health/ready")).status_code == 200
        return turns

    users = [asyncio.create_task(use(number)) for number in range(4)]
    for _ in range(4):
        assert (await api.client.post("/rebuild")).status_code == 202
        assert (await until_ended(api.client))["state"] == "completed"
    done.set()
    turns = sum(await asyncio.gather(*users))
    assert api.services.read_models.generation == 4
    videos = (await api.get("/analysis/videos", params={"status": "all"})).json()
    assert len(videos) == turns + 1
