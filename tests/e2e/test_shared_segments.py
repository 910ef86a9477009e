"""Copies of the program share the segments of files through the real RabbitMQ; they are killed, cut off and stopped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.copies import assert_nothing_twice, claimants, copies, events_of, known, until
from tests.media import sample_clip
from tests.peers.network import Network
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.program import Server, result_rows, until_ended, upload

CLIP = sample_clip("bikes.mp4")
SETTINGS = {"SEGMENT_SECONDS": "1", "MAX_CONCURRENT_SEGMENTS": "1"}
FRAME_STEP = 4


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


async def test_kills_of_copies_change_nothing(
    tmp_path: Path, broker: RabbitMq, undisturbed: list[tuple[Any, ...]]
) -> None:
    await kill_rounds(tmp_path, broker, undisturbed, videos=3, kills=3, seed=1)


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_many_kills_of_copies_change_nothing(
    tmp_path: Path, broker: RabbitMq, undisturbed: list[tuple[Any, ...]]
) -> None:
    await kill_rounds(tmp_path, broker, undisturbed, videos=30, kills=20, seed=2)


async def kill_rounds(
    folder: Path, broker: RabbitMq, expected: list[tuple[Any, ...]], *, videos: int, kills: int, seed: int
) -> None:
    """Three copies share `videos`; `kills` times a copy, the leader first, is killed at random and started again."""
    chance = random.Random(seed)
    async with copies(folder, 3, [broker.virtual_host()] * 3, **SETTINGS) as running:
        video_ids = []
        for number in range(videos):
            async with running.servers[number % 3].client() as client:
                video_ids.append(await upload(client, CLIP, frame_step=FRAME_STEP))
        for number in range(kills):
            victim = chance.choice(running.servers) if number else await running.leader()
            await asyncio.sleep(chance.uniform(0.5, 3.0))
            await victim.kill()
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            await victim.start()
        async with running.servers[0].client() as client:
            for video_id in video_ids:
                await known(client, video_id)
                body = await until_ended(client, video_id, timeout=240 + 60 * kills)
                assert body["status"] == "Completed", body["error"]
                assert await result_rows(client, video_id) == expected
                assert_nothing_twice(await events_of(client, video_id))


async def test_a_copy_that_is_cut_off_from_the_broker_is_superseded(
    tmp_path: Path, broker: RabbitMq, undisturbed: list[tuple[Any, ...]]
) -> None:
    """No byte gets through to it or from it; with the event store it goes on talking."""
    host = broker.virtual_host()
    async with Network(broker.port).serving() as network:
        cut_off = host.replace(f":{broker.port}/", f":{network.here}/")
        urls = [f"{host}?heartbeat=2", f"{cut_off}?heartbeat=2"]
        async with copies(tmp_path, 2, urls, **SETTINGS) as running:
            whole, cut = running.servers
            async with whole.client() as client:
                video_ids = [await upload(client, CLIP, frame_step=FRAME_STEP) for _ in range(2)]
                network.cut()
                for video_id in video_ids:
                    assert (await until_ended(client, video_id, timeout=240))["status"] == "Completed"
                    assert await result_rows(client, video_id) == undisturbed
                    assert_nothing_twice(await events_of(client, video_id))
                assert "RabbitMQ at" in cut.output
                network.mend()
                await until_it_takes_again(cut)
            assert "Traceback" not in cut.output
            assert "Traceback" not in whole.output


async def test_a_copy_that_is_cut_off_from_the_event_store_counts_as_dead_until_it_is_back(
    tmp_path: Path, broker: RabbitMq, undisturbed: list[tuple[Any, ...]]
) -> None:
    """With the broker it goes on talking: it gives back what it had."""
    url = broker.virtual_host()
    async with copies(tmp_path, 1, [url], **SETTINGS) as running:
        [whole] = running.servers
        port = int(running.store.uri.partition("?")[0].rpartition(":")[2])
        async with Network(port).serving() as network, whole.client() as client:
            uri = running.store.uri.replace(f":{port}", f":{network.here}")
            async with running.add(RABBITMQ_URL=url, KURRENTDB_URI=uri) as cut:
                video_id = await upload(client, CLIP, frame_step=FRAME_STEP)

                async def both_are_at_it() -> bool:
                    return len(claimants(await events_of(client, video_id))) == 2

                await until(both_are_at_it)
                network.cut()
                assert (await until_ended(client, video_id, timeout=240))["status"] == "Completed"
                assert await result_rows(client, video_id) == undisturbed
                assert_nothing_twice(await events_of(client, video_id))
                await until_told(cut, "is no longer one of the copies")
                network.mend()
                await until_it_takes_again(cut)
            assert "Traceback" not in cut.output
        assert "Traceback" not in whole.output


async def until_told(server: Server, text: str, times: int = 1) -> None:
    async with asyncio.timeout(90):
        while server.output.count(text) < times:
            await asyncio.sleep(0.1)


async def until_it_takes_again(server: Server) -> None:
    await until_told(server, "segments are taken from the queue", times=2)


async def test_a_copy_that_is_stopped_gives_its_segments_back(
    tmp_path: Path, broker: RabbitMq, undisturbed: list[tuple[Any, ...]]
) -> None:
    async with copies(tmp_path, 2, [broker.virtual_host()] * 2, **SETTINGS) as running:
        stopped, goes_on = running.servers
        async with goes_on.client() as client:
            video_id = await upload(client, CLIP, frame_step=FRAME_STEP)

            async def both_are_at_it() -> bool:
                return len(claimants(await events_of(client, video_id))) == 2

            await until(both_are_at_it)
            assert await stopped.stop() == 0
            assert (await until_ended(client, video_id))["status"] == "Completed"
            assert await result_rows(client, video_id) == undisturbed
            events = await events_of(client, video_id)
            assert "SegmentFailed" not in {event["event_type"] for event in events}
            assert_nothing_twice(events)
        await stopped.start()
