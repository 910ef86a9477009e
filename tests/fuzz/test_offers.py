"""Offers of real peers, damaged: taken, or refused for a reason; nothing else, and nothing is left of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from eventsourcing.adapters.memory import MemoryEventStore
from eventsourcing.codec import EventCodec
from monolith.domain.events import DOMAIN_EVENTS
from monolith.live.feeds import LiveFeeds
from monolith.live.playback.broadcast import PlaybackOptions
from monolith.live.playback.frame_times import FrameTimes
from monolith.live.playback.results import LiveResults
from monolith.live.playback.sessions import Viewers
from monolith.live.webrtc.publishers import WebRtcPublishers
from monolith.live.webrtc.publishing import WebRtcOptions
from monolith.live.webrtc.sdp import NoCommonCodecError, OfferError
from tests.integration.test_webrtc_publishers import LOOPBACK, Publisher, Videos
from tests.peers.whep import Viewer

OFFERS: Final = 150
AT_ONCE: Final = 10
Lines = list[bytes]
Change = Callable[[Lines, random.Random], None]


def drop(lines: Lines, chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def repeat(lines: Lines, chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def repeat_many(lines: Lines, chance: random.Random) -> None:
    first, last = sorted(chance.choices(range(len(lines)), k=2))
    lines[first:first] = lines[first:last]


def swap(lines: Lines, chance: random.Random) -> None:
    one, other = chance.choices(range(len(lines)), k=2)
    lines[one], lines[other] = lines[other], lines[one]


def change_a_byte(lines: Lines, chance: random.Random) -> None:
    at = chance.randrange(len(lines))
    changed = bytearray(lines[at] or b"x")
    changed[chance.randrange(len(changed))] = chance.choice(b"0129:/ -=a\xff")
    lines[at] = bytes(changed)


def cut_a_line(lines: Lines, chance: random.Random) -> None:
    at = chance.randrange(len(lines))
    lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]


def drop_a_word(lines: Lines, chance: random.Random) -> None:
    at = chance.randrange(len(lines))
    words = lines[at].split(b" ")
    del words[chance.randrange(len(words))]
    lines[at] = b" ".join(words)


def enlarge(lines: Lines, chance: random.Random) -> None:
    at = chance.randrange(len(lines))
    lines[at] = lines[at].replace(b"0", b"99999999999")


CHANGES: Final[tuple[Change, ...]] = (
    drop, repeat, repeat_many, swap, change_a_byte, cut_a_line, drop_a_word, enlarge
)  # fmt: skip


def damaged(offer: bytes, chance: random.Random) -> bytes:
    lines = offer.split(b"\r\n")
    for change in chance.choices(CHANGES, k=chance.randrange(1, 5)):
        change(lines, chance)
        lines = lines or [b""]
    return b"\r\n".join(lines)


async def offers_of_publishers() -> list[bytes]:
    made = []
    for kinds in (("video",), ("video", "audio"), ("audio", "video")):
        for codec in ("VP8", "H264"):
            async with Publisher(codec, kinds=kinds) as publisher:
                made.append(await publisher.offer())
    return made


async def offers_of_viewers() -> list[bytes]:
    made = []
    for codec in ("VP8", "H264", None):
        async with Viewer(codec=codec) as viewer:
            await viewer.peer.setLocalDescription(await viewer.peer.createOffer())
            made.append(viewer.peer.localDescription.sdp.encode())
    return made


def assert_some_of_both(ends: Counter[str], caplog: pytest.LogCaptureFixture) -> None:
    assert ends["taken"] > OFFERS // 5 and ends["refused"] > OFFERS // 5
    assert not [one for one in caplog.records if one.name.startswith("monolith") and one.levelname == "ERROR"]


async def until_gone(before: set[asyncio.Task[Any]]) -> None:
    async with asyncio.timeout(60):
        while not asyncio.all_tasks() <= before:
            await asyncio.sleep(0.01)


async def test_damaged_offers_of_publishers(caplog: pytest.LogCaptureFixture) -> None:
    chance, ends = random.Random(1), Counter[str]()
    offers, before = await offers_of_publishers(), asyncio.all_tasks()
    async with WebRtcPublishers(Videos(), WebRtcOptions(ice=LOOPBACK)) as publishers:
        for number in range(OFFERS):
            try:
                connection, _ = await publishers.begin(str(number), damaged(chance.choice(offers), chance))
                connection.end()
                ends["taken"] += 1
            except (OfferError, NoCommonCodecError):
                ends["refused"] += 1
            async with asyncio.timeout(60):
                while sum(publishers.states().values()) > AT_ONCE:
                    await asyncio.sleep(0.01)
    assert_some_of_both(ends, caplog)
    await until_gone(before)


async def test_damaged_offers_of_viewers(caplog: pytest.LogCaptureFixture) -> None:
    chance, ends = random.Random(2), Counter[str]()
    offers, before = await offers_of_viewers(), asyncio.all_tasks()
    feeds = LiveFeeds()
    feeds.open("v")
    results = LiveResults(MemoryEventStore(), EventCodec(DOMAIN_EVENTS), FrameTimes())
    async with Viewers(feeds, results, LOOPBACK, PlaybackOptions()) as viewers:
        for _ in range(OFFERS):
            try:
                session, _ = await viewers.open("v", damaged(chance.choice(offers), chance), overlay=False)
                await viewers.close(session)
                ends["taken"] += 1
            except (OfferError, NoCommonCodecError):
                ends["refused"] += 1
        assert len(viewers) == 0
    assert_some_of_both(ends, caplog)
    await until_gone(before)
