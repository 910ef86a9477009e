"""Connections of live sources, as read models and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from monolith.domain.events import (
    RunCancelled,
    RunCompleted,
    RunFailed,
    SegmentsPlanned,
    SourceEnded,
    StopRequested,
    StreamConnected,
    StreamDisconnected,
    VideoDeleted,
    VideoProbed,
    video_stream,
)
from monolith.domain.segment import SegmentPlan
from monolith.readmodels.videos import VideoView
from tests.readmodel_rows import assert_same_rows, count
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import RUN, VIDEO, Streamed, probed, stored, submitted
from tests.unit.readmodels.test_rebuilding import in_use

STREAM = video_stream(VIDEO)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        await running.happened(*submitted(), camera())
        yield running


def camera() -> Streamed:
    (_, event), _ = probed(frames=None, duration=None)
    assert isinstance(event, VideoProbed)
    source = msgspec.structs.replace(event.source, live=True, segments=())
    return STREAM, msgspec.structs.replace(event, source=source, path="", size_bytes=0, transport="rtsp")


def planned(segment: int, first_frame: int) -> Streamed:
    plan = SegmentPlan(segment=segment, first_frame=first_frame, last_frame=None)
    return STREAM, SegmentsPlanned(video_id=VIDEO, segments=(plan,), pts_digest=None, final=False)


def connected(connection: int, first_frame: int, at: float) -> list[Streamed]:
    segment = connection - 1
    event = StreamConnected(
        video_id=VIDEO, connection=connection, segment=segment, first_frame=first_frame, timestamp=at,
        wall_time=1_700_000_000.0 + at,
    )  # fmt: skip
    return [planned(segment, first_frame), (STREAM, event)]


def disconnected(connection: int, last_frame: int | None, at: float) -> Streamed:
    return STREAM, StreamDisconnected(
        video_id=VIDEO, connection=connection, last_frame=last_frame, reason="connection reset",
        disconnected_at=1_700_000_000.0 + at,
    )  # fmt: skip


async def view(api: Api) -> VideoView:
    return await api.services.read_models.video(VIDEO)


async def test_a_live_source_shows_whether_it_is_connected(api: Api) -> None:
    assert [(v.connected, v.connections) for v in [await view(api)]] == [(False, 0)]
    await api.happened(*connected(1, 1, 0.0))
    assert [(v.connected, v.connections) for v in [await view(api)]] == [(True, 1)]
    await api.happened(disconnected(1, 40, 4.0))
    assert [(v.connected, v.connections) for v in [await view(api)]] == [(False, 1)]


async def test_connections_are_listed_page_by_page(api: Api) -> None:
    await api.happened(*connected(1, 1, 0.0), disconnected(1, 40, 4.0), *connected(2, 41, 60.5))
    first = await api.client.get(f"/analysis/{VIDEO}/connections", params={"limit": 1})
    assert first.json() == [
        {
            "video_id": VIDEO, "connection": 1, "segment": 0, "first_frame": 1, "last_frame": 40,
            "video_timestamp": 0.0, "wall_time": 1_700_000_000.0, "ts": "2023-11-14T22:13:20.000000+00:00",
            "ended": "2023-11-14T22:13:24.000000+00:00", "reason": "connection reset",
        }
    ]  # fmt: skip
    (second,) = (await api.client.get(first.links["next"]["url"])).json()
    assert (second["connection"], second["ended"], second["last_frame"]) == (2, None, None)
    assert second["wall_time"] - second["video_timestamp"] == 1_700_000_000.0


async def test_the_status_of_a_live_source(api: Api) -> None:
    await api.happened(*connected(1, 1, 0.0), (STREAM, StopRequested(video_id=VIDEO, requested_at=1.0)))
    body = (await api.client.get(f"/analysis/{VIDEO}")).json()
    assert {key: body[key] for key in ("live", "transport", "connected", "connections", "stopping")} == {
        "live": True, "transport": "rtsp", "connected": True, "connections": 1, "stopping": True,
    }  # fmt: skip
    assert body["connections_url"].endswith(f"/analysis/{VIDEO}/connections")
    assert (body["progress"], body["frames_sampled"]) == (None, None)


async def test_what_has_ended_is_neither_connected_nor_being_ended(api: Api) -> None:
    ended = RunCompleted(
        video_id=VIDEO, run_id=RUN, frames=1, dropped=0, greatest_frame=1, coverage=1.0, completed_at=5.0
    )
    stop = StopRequested(video_id=VIDEO, requested_at=1.0)
    over = SourceEnded(video_id=VIDEO, frames=1)
    await api.happened(*connected(1, 1, 0.0), *((STREAM, event) for event in (stop, over, ended)))
    found = await view(api)
    assert (found.status, found.connected, found.stopping) == ("Completed", False, False)


CANCELLED = RunCancelled(video_id=VIDEO, run_id=RUN, reason="by the user", cancelled_at=1_700_000_005.0)
FAILED = RunFailed(video_id=VIDEO, run_id=RUN, error="the disk broke", failed_at=1_700_000_005.0)


@pytest.mark.parametrize(
    ("end", "reason"), [(CANCELLED, "cancelled: by the user"), (FAILED, "the disk broke")], ids=["cancelled", "failed"]
)  # fmt: skip
async def test_a_connection_that_is_open_at_the_end_of_its_run_ends_with_it(
    api: Api, end: RunCancelled | RunFailed, reason: str
) -> None:
    await api.happened(*connected(1, 1, 0.0), disconnected(1, 40, 4.0), *connected(2, 41, 4.5), (STREAM, end))
    assert not (await view(api)).connected
    first, second = (await api.client.get(f"/analysis/{VIDEO}/connections")).json()
    assert (first["reason"], first["last_frame"]) == ("connection reset", 40)
    assert (second["reason"], second["last_frame"]) == (reason, None)
    assert second["ended"] == "2023-11-14T22:13:25.000000+00:00"


async def test_rebuilt_connections_are_those_that_were_there(tmp_path: Path) -> None:
    async with in_use(tmp_path) as running:
        story = (
            *submitted(),
            camera(),
            *connected(1, 1, 0.0),
            disconnected(1, 9, 1.0),
            *connected(2, 10, 2.0),
        )
        await running.happened(*story, (STREAM, CANCELLED))
        await running.caught_up()
        assert count(assert_same_rows(running.path, await running.from_scratch()), "connections") == 2


async def test_a_file_has_no_connections(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.happened(*submitted(), *probed(), stored([1]))
        body = (await api.client.get(f"/analysis/{VIDEO}")).json()
        assert (body["live"], body["transport"], body["connections"]) == (False, "file", 0)
        assert "connections_url" not in body
        assert (await api.client.get(f"/analysis/{VIDEO}/connections")).json() == []


async def test_a_segment_begins_where_its_connection_did(api: Api) -> None:
    await api.happened(*connected(1, 1, 12.5))
    start = await api.services.read_models.read(lambda c: c.execute("SELECT start_seconds FROM segments").get)
    assert start == 12.5


async def test_connections_go_with_their_video(api: Api) -> None:
    await api.happened(*connected(1, 1, 0.0), (STREAM, VideoDeleted(video_id=VIDEO, deleted_at=9.0)))
    left = await api.services.read_models.read(lambda c: c.execute("SELECT count(*) FROM connections").get)
    assert left == 0
    assert (await api.client.get(f"/analysis/{VIDEO}/connections")).status_code == 404
