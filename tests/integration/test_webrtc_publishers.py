"""Publishers made of aiortc over real sockets: what is lost, what is limited, how they end."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from av.video.frame import VideoFrame

from monolith.live.feeds import FeedBusyError, LiveFeed, LiveFeeds
from monolith.live.packets import CLOCK_RATE, LivePacket
from monolith.live.webrtc.ice import IceOptions
from monolith.live.webrtc.publishers import TooManyPublishersError, WebRtcPublishers
from monolith.live.webrtc.publishing import PublisherConnection, WebRtcOptions
from monolith.live.webrtc.sdp import NoCommonCodecError, OfferError

LOOPBACK = IceOptions(interfaces=("127.0.0.1",))
RATE = 30
REPEATS = 98
"""The payload type in which aiortc sends VP8 again."""


class Videos:
    """Anyone may publish; feeds are there after their end."""

    def __init__(self) -> None:
        self.feeds = LiveFeeds()
        self.all: list[LiveFeed] = []

    @asynccontextmanager
    async def publisher(self, video_id: str) -> AsyncIterator[LiveFeed]:
        feed = self.feeds.open(video_id)
        self.all.append(feed)
        try:
            yield feed
        finally:
            self.feeds.close(feed, "broke off")


class Pictures(MediaStreamTrack):
    """Noise, so that pictures take several packets."""

    kind = "video"

    def __init__(self, width: int = 320, height: int = 240) -> None:
        super().__init__()
        self.size = (width, height)
        self.number = 0
        self._chance = np.random.default_rng(1)

    async def recv(self) -> VideoFrame:
        await asyncio.sleep(1 / RATE)
        width, height = self.size
        picture = VideoFrame.from_ndarray(
            self._chance.integers(0, 255, (height, width, 3), np.uint8), format="rgb24"
        ).reformat(format="yuv420p")
        picture.pts, picture.time_base = self.number * CLOCK_RATE // RATE, Fraction(1, CLOCK_RATE)
        self.number += 1
        return picture


class Publisher:
    """Use as `async with`."""

    def __init__(
        self,
        codec: str = "VP8",
        *,
        kinds: tuple[str, ...] = ("video",),
        configuration: RTCConfiguration | None = None,
    ) -> None:
        self.peer = RTCPeerConnection(configuration or RTCConfiguration(iceServers=[]))
        self.track = Pictures()
        for kind in kinds:
            transceiver = self.peer.addTransceiver(self.track if kind == "video" else kind, "sendonly")
            if kind == "video":
                known = RTCRtpSender.getCapabilities("video").codecs
                wanted = [one for one in known if one.name in (codec, "rtx")]
                transceiver.setCodecPreferences(wanted)

    async def offer(self) -> bytes:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp.encode()

    @property
    def way(self) -> Any:
        """Its ICE connection."""
        return self.peer.getTransceivers()[0].sender.transport.transport.iceGatherer._connection

    async def publish(self, publishers: WebRtcPublishers, video_id: str = "v") -> PublisherConnection:
        connection, answer = await publishers.begin(video_id, await self.offer())
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        return connection

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.peer.close()


@pytest.fixture
def videos() -> Videos:
    return Videos()


@asynccontextmanager
async def running(videos: Videos, **options: float) -> AsyncIterator[WebRtcPublishers]:
    made = WebRtcOptions(ice=LOOPBACK, **options)  # type: ignore[arg-type]
    async with WebRtcPublishers(videos, made) as publishers:
        yield publishers


async def taken(feed: LiveFeed, enough: Callable[[list[LivePacket]], bool]) -> list[LivePacket]:
    found: list[LivePacket] = []
    async with asyncio.timeout(90), feed.read() as reader:
        async for packet in reader:
            found.append(packet)
            if enough(found):
                break
    return found


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def lose(connection: PublisherConnection, which: Callable[[bytes], bool]) -> None:
    """RTP packets for which `which` is true do not arrive."""
    way = connection._way
    assert way is not None
    receive = way.data_received

    def some(data: bytes, component: int) -> None:
        is_rtp = len(data) > 12 and 127 < data[0] < 192 and not 64 <= data[1] & 127 < 96
        if not (is_rtp and which(data)):
            receive(data, component)

    way.data_received = some  # type: ignore[method-assign]


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_pictures_come_encoded_with_their_times(videos: Videos, codec: str) -> None:
    async with running(videos) as publishers, Publisher(codec, kinds=("audio", "video")) as publisher:
        await publisher.publish(publishers)
        packets = await taken(videos.all[0], lambda found: len(found) == 20)
        assert publishers.states() == {"connected": 1, "connecting": 0}
    assert packets[0].format.codec == codec.lower()
    assert packets[0].keyframe
    assert packets[0].pts == 0
    steps = [after.pts - before.pts for before, after in itertools.pairwise(packets)]
    assert steps == pytest.approx([CLOCK_RATE / RATE] * 19, abs=1), "the encoder rounds"


async def test_what_a_reader_needs_is_asked_of_the_publisher(videos: Videos) -> None:
    async with running(videos) as publishers, Publisher() as publisher:
        await publisher.publish(publishers)
        feed = videos.all[0]
        await taken(feed, lambda found: len(found) == 5)
        assert feed.ask_keyframe is not None
        feed.ask_keyframe()
        packets = await taken(feed, lambda found: len(found) > 5 and found[-1].keyframe)
        assert [one.keyframe for one in packets].count(True) == 2
        assert publishers.sums("asked") == 1


async def test_packets_that_are_lost_now_and_then_are_sent_again(videos: Videos) -> None:
    chance = random.Random(7)
    async with running(videos) as publishers, Publisher() as publisher:
        connection = await publisher.publish(publishers)
        lose(connection, lambda data: chance.random() < 0.02)
        packets = await taken(videos.all[0], lambda found: len(found) == 60)
        assert connection.pictures is not None
        assert connection.pictures.pictures >= 60
    assert packets[-1].pts > packets[0].pts


async def test_after_what_is_lost_for_good_it_goes_on_with_a_keyframe(videos: Videos) -> None:
    """Ten packets, and everything that is sent again."""
    count = itertools.count()

    def some(data: bytes) -> bool:
        return data[1] & 127 == REPEATS or 100 <= next(count) < 110

    async with running(videos) as publishers, Publisher() as publisher:
        connection = await publisher.publish(publishers)
        lose(connection, some)
        pictures = connection.pictures
        assert pictures is not None
        packets = await taken(videos.all[0], lambda found: found[-1].keyframe and pictures.lost > 0)
        assert pictures.lost == 10
        assert pictures.asked > 0
        assert pictures.broken > 0
    assert packets[-1].pts - packets[-2].pts > 2 * CLOCK_RATE // RATE


async def test_a_publisher_that_goes_ends_its_feed(videos: Videos) -> None:
    async with running(videos) as publishers, Publisher() as publisher:
        connection = await publisher.publish(publishers)
        await taken(videos.all[0], lambda found: len(found) == 3)
        assert publishers.find("v", connection.session_id) is connection
        assert publishers.find("other", connection.session_id) is None
        connection.end()
        await until(lambda: videos.all[0].ended)
        assert videos.all[0].reason == ""
        await until(lambda: publishers.states() == {"connected": 0, "connecting": 0})
        assert publishers.find("v", connection.session_id) is None
        assert publishers.sums("pictures") >= 3


async def test_one_that_closes_without_a_word_has_broken_off(videos: Videos) -> None:
    async with running(videos) as publishers:
        async with Publisher() as publisher:
            await publisher.publish(publishers)
            await taken(videos.all[0], lambda found: len(found) == 3)
        await until(lambda: videos.all[0].ended)
        assert videos.all[0].reason == "the connection is closed"


@pytest.mark.parametrize("answered", ["none", "the first"])
async def test_one_that_answers_no_checks_is_taken_while_it_is_heard(
    videos: Videos, monkeypatch: pytest.MonkeyPatch, answered: str
) -> None:
    """As FFmpeg's muxer, from the moment when its own check is answered."""
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.05)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 1)
    async with running(videos) as publishers, Publisher() as publisher:
        publisher.way.query_consent = asyncio.Event().wait  # it is the program's patience that is tried
        if answered == "none":
            publisher.way.request_received = lambda message, addr, protocol: None
        await publisher.publish(publishers)
        await taken(videos.all[0], lambda found: len(found) == 3)
        publisher.way.request_received = lambda message, addr, protocol: None
        packets = await taken(videos.all[0], lambda found: len(found) == 75)
        assert len(packets) == 75
        assert publishers.states() == {"connected": 1, "connecting": 0}


async def test_one_that_never_connects_is_given_up(videos: Videos) -> None:
    async with running(videos, connect_seconds=0.6) as publishers, Publisher() as publisher:
        await publishers.begin("v", await publisher.offer())
        await until(lambda: videos.all[0].ended)
        assert videos.all[0].reason.startswith("no connection within 0.6 s")


async def test_one_without_pictures_is_given_up(videos: Videos) -> None:
    async with running(videos, silent_seconds=1.0) as publishers, Publisher() as publisher:
        connection = await publisher.publish(publishers)
        await taken(videos.all[0], lambda found: len(found) == 3)
        lose(connection, lambda data: True)
        await until(lambda: videos.all[0].ended)
        assert videos.all[0].reason == "no picture for 1 s"


async def test_one_that_sends_too_much_is_ended(videos: Videos) -> None:
    async with running(videos, max_bitrate=100) as publishers, Publisher() as publisher:
        await publisher.publish(publishers)
        await until(lambda: bool(videos.all and videos.all[0].ended))
        assert "kb/s came; at most 100 kb/s may" in videos.all[0].reason


async def test_a_video_that_takes_no_more_ends_its_publisher(videos: Videos) -> None:
    async with running(videos) as publishers, Publisher() as publisher:
        await publisher.publish(publishers)
        feed = videos.all[0]
        await taken(feed, lambda found: len(found) == 3)
        feed.dismiss("the video was deleted")
        await until(lambda: publishers.states() == {"connected": 0, "connecting": 0})


async def test_a_video_has_one_publisher_and_the_program_a_few(videos: Videos) -> None:
    async with running(videos, publishers=2) as publishers:
        async with Publisher() as first, Publisher() as second, Publisher() as third:
            await first.publish(publishers, "v")
            with pytest.raises(FeedBusyError):
                await second.publish(publishers, "v")
            await publishers.begin("w", await third.offer())
            with pytest.raises(TooManyPublishersError, match="2 publishers already"):
                await publishers.begin("x", b"v=0")
        assert publishers.refused == {"malformed": 0, "no codec": 0, "busy": 1, "too many": 1}


async def test_offers_without_use_are_refused_and_leave_nothing(videos: Videos) -> None:
    async with running(videos) as publishers, Publisher(kinds=("audio",)) as silent, Publisher() as odd:
        with pytest.raises(NoCommonCodecError, match="sends no video"):
            await publishers.begin("v", await silent.offer())
        offer = (await odd.offer()).replace(b"VP8/90000", b"AV1/90000")
        with pytest.raises(NoCommonCodecError, match="no codec that is taken"):
            await publishers.begin("v", offer)
        with pytest.raises(OfferError):
            await publishers.begin("v", b"v=0\r\ngarbage")
        await until(lambda: publishers.states() == {"connected": 0, "connecting": 0})
        assert len(videos.feeds) == 0


async def test_the_end_of_the_program_ends_them_all(videos: Videos) -> None:
    async with Publisher() as publisher:
        async with running(videos) as publishers:
            await publisher.publish(publishers)
            await taken(videos.all[0], lambda found: len(found) == 3)
        assert videos.all[0].reason == "the program is ending"
        with pytest.raises(TooManyPublishersError):
            await publishers.begin("v", b"v=0")
