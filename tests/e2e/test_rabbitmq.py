"""The real program and the real RabbitMQ: who listens hears everything, whoever is away meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import httpx
import pytest

from monolith.messaging.names import COMMANDS_QUEUE
from tests.e2e.copies import copies
from tests.media import sample_clip
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.peers.subscriber import Told, bind, channel_to, next_of, once, positions, told
from tests.program import Server, until_ended, upload

CLIP = sample_clip("bikes.mp4")


@pytest.fixture(scope="module")
def mq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


async def until_metric(client: httpx.AsyncClient, line: str) -> None:
    async with asyncio.timeout(60):
        while line not in (await client.get("/metrics")).text.splitlines():
            await asyncio.sleep(0.1)


async def until_heard(url: str, video_id: str, last: str) -> list[Told]:
    """What lies in the queue `listener` once the event `last` of the video is there."""
    heard: list[Told] = []
    async with asyncio.timeout(90):
        while not any(one.routing_key == last and video_id in one.stream_name for one in heard):
            heard += await told(url, "listener")
            await asyncio.sleep(0.1)
    return heard


async def stored(client: httpx.AsyncClient, video_id: str) -> dict[str, int]:
    """Stream → how many events of the video it holds."""
    found: dict[str, int] = {}
    after = 0
    while page := (await client.get(f"/analysis/{video_id}/events", params={"after": after})).json():
        for event in page:
            found[event["stream_name"]] = found.get(event["stream_name"], 0) + 1
            after = event["commit_position"]
    return found


async def test_a_broker_that_is_away_stops_nothing_and_is_told_everything(
    tmp_path: Path, mq: RabbitMq
) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    mq.kill()
    server = Server(tmp_path, RABBITMQ_URL=url, WORKERS="1")
    try:
        await server.start(wait=False)
        async with server.client() as client:
            async with asyncio.timeout(60):
                while "RabbitMQ at 127.0.0.1" not in await readiness(client):
                    await asyncio.sleep(0.1)
            video_id = await upload(client, CLIP, frame_step=25)
            assert (await until_ended(client, video_id))["status"] == "Completed"
            mq.start()
            await mq.until_ready()
            await server.until_ready()
            heard = await until_heard(url, video_id, "video.RunCompleted")
            assert {name: len(found) for name, found in positions(heard).items()} == await stored(
                client, video_id
            )

            # A rebuild reads all events again, and tells nobody.
            assert (await client.post("/rebuild")).status_code in (200, 202)
            async with asyncio.timeout(60):
                while (await client.get("/rebuild")).json()["state"] == "running":
                    await asyncio.sleep(0.1)
            second = await start_by_message(url)
            heard = await until_heard(url, second, "video.RunFailed")
            assert {one.stream_name for one in heard} == {f"video-{second}"}
            assert (await client.get("/asyncapi")).status_code == 200
            assert (await client.get("/asyncapi.json")).json()["asyncapi"] == "3.0.0"
        assert await server.stop() == 0
        assert "Traceback" not in server.output
    finally:
        await server.kill()


async def readiness(client: httpx.AsyncClient) -> str:
    try:
        return (await client.get("/health/ready")).text
    except httpx.TransportError:
        return ""


async def start_by_message(url: str) -> str:
    """A video that cannot be fetched; its id."""
    async with channel_to(url) as channel:
        replies = await channel.declare_queue(exclusive=True)
        body = {"videoURL": "http://127.0.0.1:9/none.mp4", "modelsToRun": ["color_detection"]}
        await channel.default_exchange.publish(
            aio_pika.Message(
                json.dumps(body).encode(), type="StartAnalysis", message_id="first", reply_to=replies.name
            ),
            COMMANDS_QUEUE,
        )
        reply = await next_of(replies)
        assert reply.type == "AnalysisStarted"
        return str(json.loads(reply.body)["video_id"])


async def test_another_copy_relays_when_the_one_that_does_is_killed(tmp_path: Path, mq: RabbitMq) -> None:
    url = mq.virtual_host()
    await bind(url, "listener")
    async with copies(tmp_path, 2, [url, url]) as running:
        async with asyncio.timeout(60):
            while not (
                relaying := [
                    one for one in running.servers if "is now the one that tells RabbitMQ" in one.output
                ]
            ):
                await asyncio.sleep(0.1)
        [other] = [one for one in running.servers if one is not relaying[0]]
        async with other.client() as client:
            video_id = await upload(client, CLIP, frame_step=5)
            async with asyncio.timeout(60):
                while not any(name.startswith("results-") for name in await stored(client, video_id)):
                    await asyncio.sleep(0.1)
            await relaying[0].kill()
            assert (await until_ended(client, video_id))["status"] == "Completed"
            heard = once(await until_heard(url, video_id, "video.RunCompleted"))
            counts = await stored(client, video_id)
        for name, found in positions(heard).items():
            assert found == list(range(counts[name])), name
        assert set(positions(heard)) == set(counts)
        await relaying[0].start()
