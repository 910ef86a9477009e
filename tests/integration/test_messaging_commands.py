"""Submission by message, through the real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from monolith.application.handlers import FrameOptions, VideoHandlers
from monolith.application.video_stream import VideoStreams
from monolith.domain.events import DOMAIN_EVENTS
from monolith.messaging.commands import Commands
from monolith.messaging.connection import MessageBroker
from monolith.messaging.names import COMMANDS_QUEUE, DEAD_COMMANDS_QUEUE, REASON_HEADER
from monolith.secret_urls import SecretUrls
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.peers.subscriber import channel_to, next_of

START = {"videoURL": "http://h/a.mp4?token=x1", "modelsToRun": ["objects_detection"], "frameStep": 5}


@pytest.fixture(scope="module")
def mq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


class Gate:
    async def wait_for(self, commit_position: int, timeout: float) -> None:
        return


class World:
    """The program's use cases over a real event store, served by messages; and another system that asks."""

    def __init__(self, folder: Path, store: SqliteEventStore, url: str, channel: AbstractChannel) -> None:
        self.store = store
        self.channel = channel
        self.no_room: str | None = None
        streams = VideoStreams(store, EventCodec(DOMAIN_EVENTS))
        options = FrameOptions(max_height=720, jpeg_quality=90, infer_from="stored")
        handlers = VideoHandlers(streams, store, Gate(), SecretUrls(folder), options, time.time)
        self.commands = Commands(handlers, MessageBroker(url), self._room)

    async def _room(self) -> str | None:
        return self.no_room

    async def until_served(self) -> None:
        async with asyncio.timeout(60):
            while not self.commands.serving:
                await asyncio.sleep(0.01)

    async def send(self, kind: str | None, body: object, **properties: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.channel.default_exchange.publish(
            aio_pika.Message(data, type=kind, **properties), COMMANDS_QUEUE
        )

    async def ask(
        self, kind: str | None, body: object, **properties: Any
    ) -> tuple[str | None, dict[str, Any]]:
        """Type and body of the reply."""
        replies = await self.channel.declare_queue(exclusive=True)
        await self.send(kind, body, reply_to=replies.name, correlation_id="question", **properties)
        reply = await next_of(replies)
        assert reply.correlation_id == "question"
        return reply.type, json.loads(reply.body)

    async def dead(self) -> AbstractQueue:
        return await self.channel.get_queue(DEAD_COMMANDS_QUEUE)

    async def events(self) -> list[str]:
        return [event.event_type for event in await self.store.read_all(prefixes=["video-"])]


@pytest.fixture
async def world(mq: RabbitMq, tmp_path: Path) -> AsyncIterator[World]:
    url = mq.virtual_host()
    store = await SqliteEventStore.open(tmp_path / "events.db")
    async with channel_to(url) as channel:
        world = World(tmp_path, store, url, channel)
        task = asyncio.create_task(world.commands.run())
        await world.until_served()
        yield world
        task.cancel()
        await asyncio.wait([task])
    await store.close()


async def test_a_start_is_answered_and_sent_again_starts_nothing(world: World) -> None:
    kind, first = await world.ask("StartAnalysis", START, message_id="order-1")
    assert kind == "AnalysisStarted"
    assert first["repeated"] is False and first["frame_step"] == 5
    assert first["video_url"] == "http://h/a.mp4?token=***"
    kind, again = await world.ask("StartAnalysis", START, message_id="order-1")
    assert kind == "AnalysisStarted"
    assert again == {**first, "repeated": True}
    assert await world.events() == ["VideoSubmitted", "RunRequested"]
    assert world.commands.outcomes["done"] == 2


async def test_a_cancel_is_carried_out_once(world: World) -> None:
    _, started = await world.ask("StartAnalysis", START, message_id="order-2")
    body = {"video_id": started["video_id"]}
    for _ in range(2):
        assert await world.ask("CancelAnalysis", body, message_id="cancel-2") == ("AnalysisCancelled", body)
    assert (await world.events()).count("RunCancelled") == 1
    kind, refused = await world.ask("CancelAnalysis", body, message_id="cancel-3")
    assert (kind, refused["code"]) == ("CommandRefused", "not-possible")


REFUSED: list[tuple[str | None, object, str, str]] = [
    ("StartAnalysis", {**START, "modelsToRun": ["x"]}, "invalid-request", "unknown model 'x'"),
    ("StartAnalysis", {**START, "videoURL": "file:///etc/passwd"}, "invalid-request", "must start with"),
    ("CancelAnalysis", {"video_id": "0199aaaa-0000-7000-8000-00000000000f"}, "video-not-found", "no video"),
    ("CancelAnalysis", {"video_id": "x"}, "invalid-message", "Invalid UUID"),
    ("StartAnalysis", {**START, "extra": 1}, "invalid-message", "unknown field `extra`"),
    ("StartAnalysis", b"\xff{", "invalid-message", "must be the JSON of a StartAnalysis"),
    ("Restart", START, "invalid-message", "must be one of StartAnalysis, CancelAnalysis, not 'Restart'"),
    (None, START, "invalid-message", "not None"),
]


async def test_what_cannot_be_done_is_answered_with_why(world: World) -> None:
    for kind, body, code, detail in REFUSED:
        answered, refused = await world.ask(kind, body, message_id="wrong")
        assert (answered, refused["code"]) == ("CommandRefused", code)
        assert detail in refused["detail"]
    assert await world.events() == []


async def test_what_nobody_would_be_told_goes_to_the_dead_letters_with_why(world: World) -> None:
    dead = await world.dead()
    await world.send("Restart", START, message_id="no-command")
    letter = await next_of(dead)
    assert letter.message_id == "no-command" and json.loads(letter.body) == START
    assert "must be one of" in str(letter.headers[REASON_HEADER])
    await world.send("StartAnalysis", {**START, "modelsToRun": []}, message_id="refused")
    letter = await next_of(dead)
    assert letter.type == "StartAnalysis" and "modelsToRun must be" in str(letter.headers[REASON_HEADER])
    assert world.commands.outcomes["dead-lettered"] == 2


async def test_a_command_waits_for_room_on_the_disk(world: World) -> None:
    world.no_room = "the disk is full"
    await world.send("StartAnalysis", START, message_id="order-4")
    async with asyncio.timeout(30):
        while world.commands.waiting == 0:
            await asyncio.sleep(0.01)
    assert await world.events() == []
    world.no_room = None
    async with asyncio.timeout(30):
        while not await world.events():
            await asyncio.sleep(0.02)


async def test_what_was_in_the_midst_when_the_connection_broke_is_carried_out_once(
    world: World, mq: RabbitMq
) -> None:
    world.no_room = "the disk is full"
    await world.send("StartAnalysis", START, message_id="order-5")
    async with asyncio.timeout(30):
        while world.commands.waiting == 0:
            await asyncio.sleep(0.01)
    mq.ask('[rabbit_networking:close_connection(P, "test") || P <- rabbit_networking:connections()].')
    world.no_room = None
    async with asyncio.timeout(90):
        while await world.events() != ["VideoSubmitted", "RunRequested"]:
            await asyncio.sleep(0.05)


async def test_a_reply_that_nobody_takes_stops_nothing(world: World) -> None:
    await world.send("StartAnalysis", START, message_id="order-6", reply_to="nobody")
    async with asyncio.timeout(30):
        while world.commands.outcomes["reply returned"] == 0:
            await asyncio.sleep(0.02)
    assert (await world.ask("StartAnalysis", START, message_id="order-6"))[1]["repeated"] is True
