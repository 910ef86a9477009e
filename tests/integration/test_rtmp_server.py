"""The RTMP server over real sockets: who gets in, who is cut off, and what is said of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from monolith.application.push_sources import PushEndpoint
from monolith.domain.events import PushKind
from monolith.live.feeds import LiveFeed
from monolith.live.rtmp_connection import MOST_MESSAGES
from monolith.live.rtmp_server import RtmpOptions, RtmpServer
from monolith.protocols.rtmp.events import Event
from monolith.protocols.rtmp.session import ServerSession
from tests.peers.rtmp_publisher import RtmpPublisher, answers, chunk_header, codes
from tests.pushed import Pushed
from tests.unit.live.test_rtmp_packets import CONFIG, picture

DEADLINE = 60.0


class World(Pushed):
    """A server, and publishers that speak to it. `close` ends with the test."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder)
        self.server = RtmpServer(self.sources, RtmpOptions(port=0, **options))
        self.feeds = self.sources.feeds

    async def until_publishes(self, video_id: str) -> LiveFeed:
        async with asyncio.timeout(DEADLINE):
            while (feed := self.feeds.get(video_id)) is None:
                await asyncio.sleep(0.01)
        return feed

    async def until_alone(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.server.publishing or self.server.others or len(self.feeds):
                await asyncio.sleep(0.01)


class Wire:
    """A publisher's connection. `publisher`: makes what it sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.publisher = RtmpPublisher()
        self._reader = reader
        self.writer = writer
        self.received = b""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until_closed(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while data := await self._read():
                self.received += data

    async def until_told(self, code: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while code.encode() not in self.received:
                data = await self._read()
                assert data, f"closed without {code}"
                self.received += data

    @property
    def codes(self) -> list[str]:
        return codes(answers(self.received))

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except ConnectionError:
            return b""


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[World]:
    world = World(folder, **options)
    async with world.server.serving():
        yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as world:
        yield world


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def publishing(world: World, secret: str, video_id: str) -> AsyncIterator[tuple[Wire, LiveFeed]]:
    async with connected(world) as wire:
        wire.send(wire.publisher.begin(secret))
        await wire.until_told("NetStream.Publish.Start")
        yield wire, await world.until_publishes(video_id)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_pictures_reach_the_feed_and_the_end_in_order_its_end(world: World) -> None:
    made = await world.endpoint()
    async with publishing(world, made.secret, made.video_id) as (wire, feed):
        reader = feed.read()
        wire.send(wire.publisher.video(CONFIG, 0) + wire.publisher.audio(b"\xaf\x01sound", 0))
        for number in range(5):
            wire.send(wire.publisher.video(picture(keyframe=number == 0), number * 40))
        wire.send(wire.publisher.unpublish(made.secret))
        async with asyncio.timeout(DEADLINE):
            times = [(one.dts // 90, one.keyframe) async for one in reader]
        assert times == [(0, True), (40, False), (80, False), (120, False), (160, False)]
        assert feed.reason == ""
    await world.until_alone()
    assert world.server.received > 1000


async def test_pictures_that_come_with_the_request_are_not_lost(world: World) -> None:
    made = await world.endpoint()
    async with connected(world) as wire:
        early = wire.publisher.video(CONFIG, 0) + wire.publisher.video(picture(keyframe=True), 0)
        wire.send(wire.publisher.begin(made.secret) + early)
        feed = await world.until_publishes(made.video_id)
        async with asyncio.timeout(DEADLINE), feed.read() as reader:
            assert (await anext(reader)).keyframe


async def test_a_broken_connection_may_come_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    made = await world.endpoint()
    for _ in range(2):
        async with publishing(world, made.secret, made.video_id) as (wire, feed):
            wire.writer.transport.abort()
            await until(lambda feed=feed: feed.ended)  # type: ignore[misc]
        assert feed.reason == "the publisher's connection broke"
        await world.until_alone()
    assert "it went away while it published" in caplog.text


async def test_a_second_publisher_is_refused_and_the_first_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.application.push_sources._GONE_SECONDS", 60.0)
    made = await world.endpoint()
    async with publishing(world, made.secret, made.video_id) as (_, feed), connected(world) as second:
        second.send(second.publisher.begin(made.secret))
        await second.until_closed()
        assert "NetStream.Publish.BadName" in second.codes and b"published already" in second.received
        assert not feed.ended
    assert world.server.refusals == {"busy": 1}


async def test_a_wrong_key_is_refused_and_not_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    made = await world.endpoint()
    wrong = made.secret[:-4] + "wwww"
    async with connected(world) as wire:
        wire.send(wire.publisher.begin(wrong))
        await wire.until_closed()
    assert "NetStream.Publish.Denied" in wire.codes
    await world.until_alone()
    assert world.server.refusals == {"key": 1}
    assert "the key is wrong" in caplog.text and wrong not in caplog.text


async def test_another_application_is_refused(world: World) -> None:
    made = await world.endpoint()
    async with connected(world) as wire:
        wire.send(wire.publisher.begin(made.secret, app="other"))
        await wire.until_closed()
    assert "NetStream.Publish.BadName" in wire.codes and b"'live'" in wire.received


async def test_a_key_may_have_a_query(world: World) -> None:
    made = await world.endpoint()
    async with publishing(world, f"{made.secret}?user=me", made.video_id):
        assert world.server.publishing == 1


async def test_who_is_dismissed_is_told_and_closed(world: World) -> None:
    made = await world.endpoint()
    async with publishing(world, made.secret, made.video_id) as (wire, feed):
        await world.handlers.cancel(made.video_id)
        world.sources.note(await world.load(made.video_id))
        await wire.until_closed()
        assert "NetStream.Unpublish.Success" in wire.codes and b"has ended" in wire.received
        assert (feed.ended, feed.reason) == (True, "")


async def test_what_is_no_video_ends_the_publish_with_the_reason(world: World) -> None:
    made = await world.endpoint()
    async with publishing(world, made.secret, made.video_id) as (wire, _):
        wire.send(wire.publisher.video(b"\x12" + bytes(20), 0))
        await wire.until_closed()
        assert "NetStream.Publish.Failed" in wire.codes


@pytest.mark.parametrize(
    "sent", [b"", b"\x03" + bytes(700), b"\x03" + bytes(3072), RtmpPublisher().hello()], ids=repr
)
async def test_half_a_handshake_is_cut_off(
    tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, handshake_timeout=0.2) as world, connected(world) as wire:
        wire.send(sent)
        await wire.until_closed()
        await world.until_alone()
    assert "it did not publish within 0.2 s" in caplog.text


async def test_garbage_is_cut_off(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x03" + bytes(3072) + b"\xff" * 4000):
        async with connected(world) as wire:
            wire.send(garbage)
            await wire.until_closed()
    await world.until_alone()
    assert caplog.text.count("it does not keep to RTMP") == 2


async def test_silence_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, idle_timeout=2.5) as world:
        made = await world.endpoint()
        async with publishing(world, made.secret, made.video_id) as (wire, feed):
            await wire.until_closed()
            await until(lambda: feed.ended)
            assert feed.reason == "the publisher's connection broke"


async def test_too_many_bits_are_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path, max_bitrate=100) as world:
        made = await world.endpoint()
        async with publishing(world, made.secret, made.video_id) as (wire, _):
            wire.send(wire.publisher.video(CONFIG, 0))
            wire.send(wire.publisher.video(picture(keyframe=True, data=bytes(200_000)), 0))
            await wire.until_closed()
    assert "more than 100 kbit/s" in caplog.text


async def test_who_does_not_read_is_cut_off(world: World, caplog: pytest.LogCaptureFixture) -> None:
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", world.server.port))
    deaf.setblocking(False)
    publisher = RtmpPublisher()
    made = await world.endpoint()
    requests = publisher.command("FCPublish", None, "x") * (9 * MOST_MESSAGES)
    with deaf, contextlib.suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(deaf, publisher.begin(made.secret))
        await world.until_publishes(made.video_id)
        await asyncio.get_running_loop().sock_sendall(deaf, requests)
        await until(lambda: "it does not read what it is told" in caplog.text)
    await world.until_alone()
    assert "it does not read what it is told" in caplog.text


ONE_BYTE_SOUNDS = chunk_header(3, 4) + b"s"


async def test_small_messages_without_a_key_are_cut_off(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(world) as wire:
        wire.send(wire.publisher.hello() + wire.publisher.message(99, b"") + chunk_header(3, 3) * 200_000)
        await wire.until_closed()
        await world.until_alone()
    assert "more than 1024 messages before a publish was accepted" in caplog.text


async def test_small_messages_leave_others_their_turn_and_are_counted(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are 200 kB: few of the bytes that may come at once."""
    at_once = await _heard_at_once(world, await world.endpoint(), monkeypatch)
    assert max(at_once) <= 256
    assert 10 * MOST_MESSAGES <= sum(at_once) < 100_000
    await world.until_alone()
    assert "more than 1000 messages a second" in caplog.text


async def _heard_at_once(world: World, made: PushEndpoint, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A flood of sounds of one byte; how many are gone through without another having its turn."""
    turns, at_once = 0, {0: 0}
    receive = ServerSession.receive

    def counted(session: ServerSession, data: bytes) -> list[Event]:
        events = receive(session, data)
        at_once[turns] = at_once.get(turns, 0) + len(events)
        return events

    async with publishing(world, made.secret, made.video_id) as (wire, _):
        monkeypatch.setattr(ServerSession, "receive", counted)
        wire.send(wire.publisher.audio(b"s", 0) + ONE_BYTE_SOUNDS * 100_000)
        while world.server.publishing:
            turns += 1
            await asyncio.sleep(0)
    return list(at_once.values())


async def test_a_connection_that_is_cut_with_its_request_may_come_again(world: World) -> None:
    made = await world.endpoint()
    async with connected(world) as wire:
        wire.send(wire.publisher.begin(made.secret) + b"\xff" * 300)
        await wire.until_closed()
    await world.until_alone()
    async with publishing(world, made.secret, made.video_id) as (_, feed):
        assert not feed.ended


async def test_a_connection_that_is_cut_while_its_key_is_looked_up_may_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feeds: list[LiveFeed]
) -> None:
    looked_up = asyncio.Event()

    async def slowly(kind: PushKind, secret: str) -> str:
        await looked_up.wait()
        return "v"

    async with running(tmp_path, handshake_timeout=2.5) as world, connected(world) as wire:
        monkeypatch.setattr(world.sources, "authorize", slowly)
        wire.send(wire.publisher.begin("key"))
        await wire.until_closed()
        looked_up.set()
        await until(lambda: bool(feeds) and feeds[0].ended)
    assert feeds[0].reason == "the publisher's connection broke"


async def test_who_was_silent_makes_way_for_the_same_publisher(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection broke, and nothing told so."""
    monkeypatch.setattr("monolith.application.push_sources._GONE_SECONDS", 60.0)
    made = await world.endpoint()
    async with publishing(world, made.secret, made.video_id) as (first, feed), connected(world) as early:
        early.send(early.publisher.begin(made.secret))
        await early.until_closed()
        assert b"published already" in early.received and not feed.ended
        monkeypatch.setattr("monolith.application.push_sources._GONE_SECONDS", 0.0)
        async with publishing(world, made.secret, made.video_id) as (_, second):
            assert (feed.ended, feed.reason, second.ended) == (
                True,
                "the publisher's connection broke",
                False,
            )
            await first.until_closed()
            assert b"came again by another connection" in first.received
            assert world.feeds.get(made.video_id) is second


async def test_publish_end_and_publish_again_in_one_piece(world: World, feeds: list[LiveFeed]) -> None:
    made, other = await world.endpoint(), await world.endpoint()
    async with connected(world) as wire:
        publisher = wire.publisher
        pictures = publisher.video(CONFIG, 0) + publisher.video(picture(keyframe=True), 0)
        again = publisher.create_stream() + publisher.publish(other.secret)
        wire.send(
            publisher.begin(made.secret) + pictures + publisher.unpublish(made.secret) + again + pictures
        )
        feed = await world.until_publishes(other.video_id)
        async with asyncio.timeout(DEADLINE), feed.read() as reader:
            assert (await anext(reader)).keyframe
        first = feeds[0]
        assert (first.video_id, first.ended, first.reason) == (made.video_id, True, "")
        assert [one.keyframe for one in first.newest_group] == [True]
    assert not world.server.refusals


async def test_two_publishes_at_a_time_are_refused(world: World) -> None:
    made, other = await world.endpoint(), await world.endpoint()
    async with publishing(world, made.secret, made.video_id) as (wire, feed):
        wire.publisher.stream_id = 2
        wire.send(wire.publisher.create_stream() + wire.publisher.publish(other.secret))
        await wire.until_told("NetStream.Publish.BadName")
        assert b"one video at a time" in wire.received
        assert not feed.ended


async def test_connections_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path, max_connections_per_client=2) as world:
        async with connected(world) as first, connected(world), connected(world) as third:
            await third.until_closed()
            assert world.server.refusals == {"client_connections": 1}
            assert world.server.others == 2
            first.writer.close()
            await until(lambda: world.server.others == 1)
            async with connected(world):
                await until(lambda: world.server.others == 2)
        await world.until_alone()
        assert world.server.accepted == 3
    assert "too many connections" in caplog.text


class Far(asyncio.Transport):
    """To a peer that is elsewhere. It is closed, or not."""

    def __init__(self, address: str) -> None:
        here, self._there = socket.socketpair()
        super().__init__({"peername": (address, 4711, 0, 0), "socket": here})

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self._there.fileno() < 0

    def close(self) -> None:
        self.get_extra_info("socket").close()
        self._there.close()

    def abort(self) -> None:
        self.close()


async def test_addresses_of_one_ipv6_network_are_one_client(tmp_path: Path) -> None:
    """A single host may have them all."""
    server = RtmpServer(Pushed(tmp_path).sources, RtmpOptions(max_connections_per_client=2))
    peers = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1", "::ffff:192.0.2.1", "192.0.2.1")
    transports = [Far(address) for address in peers]
    for transport in transports:
        server._connection().connection_made(transport)
    assert [transport.is_closing() for transport in transports] == [False, False, True, False, False, False]
    for transport in transports:
        transport.close()


async def test_a_flood_of_bad_connections_is_a_few_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as world:

        async def bad() -> None:
            async with connected(world) as wire:
                wire.send(b"\x99" * 100)
                await wire.until_closed()

        for _ in range(20):
            await asyncio.gather(*(bad() for _ in range(15)))
        await world.until_alone()
        await until(lambda: "more RTMP connections were closed" in caplog.text)
    assert 50 <= len(caplog.records) < 100


async def test_a_port_that_is_taken_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.live.rtmp_server._RETRY_SECONDS", 0.1)
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    server = RtmpServer(Pushed(tmp_path).sources, RtmpOptions(port=port))
    async with server.serving():
        assert server.port == 0 and f"RTMP port {port} cannot be had" in server.problem
        taken.close()
        await taken.wait_closed()
        await until(lambda: server.port == port)
        assert server.problem == ""
    assert caplog.text.count("cannot be had") == 1


async def test_the_end_of_the_program_closes_everything(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        made = await world.endpoint()
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        writer.write(RtmpPublisher().begin(made.secret))
        feed = await world.until_publishes(made.video_id)
    assert (feed.ended, feed.reason) == (True, "the publisher's connection broke")
    async with asyncio.timeout(DEADLINE):
        await reader.read()
    writer.close()
    assert world.server.port == 0


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[LiveFeed]:
    """All that are opened, also those that end at once."""
    opened: list[LiveFeed] = []
    first = LiveFeed.__init__

    def noted(feed: LiveFeed, video_id: str, *, pushed: bool = True) -> None:
        first(feed, video_id, pushed=pushed)
        opened.append(feed)

    monkeypatch.setattr(LiveFeed, "__init__", noted)
    return opened


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
