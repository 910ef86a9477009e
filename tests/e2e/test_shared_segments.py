"""Copies of the program share the segments of files through the real RabbitMQ; they are killed, cut off and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.copies import assert_nothing_twice, claimants, copies, events_of, known
from tests.media import sample_clip
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.program import Server, result_rows, until_ended, upload

CLIP = sample_clip("bikes.mp4")
SETTINGS = {"SEGMENT_SECONDS": "1", "MAX_CONCURRENT_SEGMENTS": "1"}
FRAME_STEP = 3


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """Of one program that has its data to itself."""

    async def run() -> list[tuple[Any, ...]]:
        alone = Server(tmp_path_factory.mktemp("alone"), PRECISION="f32", **SETTINGS)
        async with alone, alone.client() as client:
            video_id = await upload(client, CLIP, frame_step=FRAME_STEP)
            assert (await until_ended(client, video_id))["status"] == "Completed"
            return await result_rows(client, video_id)

    return asyncio.run(run())


async def test_all_copies_work_on_one_file_and_find_what_one_finds(
    tmp_path: Path, broker: RabbitMq, undisturbed: list[tuple[Any, ...]]
) -> None:
    async with copies(tmp_path, 2, [broker.virtual_host()] * 2, **SETTINGS) as running:
        async with running.servers[0].client() as one, running.servers[1].client() as other:
            video_id = await upload(one, CLIP, frame_step=FRAME_STEP)
            await known(other, video_id)
            for client in (one, other):
                assert (await until_ended(client, video_id))["status"] == "Completed"
                assert await result_rows(client, video_id) == undisturbed
            events = await events_of(one, video_id)
            assert_nothing_twice(events)
            assert len(claimants(events)) == 2, claimants(events)
        for server in running.servers:
            assert "Traceback" not in server.output
