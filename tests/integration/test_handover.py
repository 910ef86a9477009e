"""From a live feed to what a decoder process reads, over the real socket."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monolith.domain.events import Transport
from monolith.ingest.errors import SourceError
from monolith.ingest.live_source import BROKEN, LENGTH, LiveSource
from monolith.ingest.messages import SourceAccess
from monolith.live.handover import FeedHandover
from monolith.live.packets import CLOCK_RATE, LivePacket
from tests.live_clips import packets_of
from tests.pushed import Pushed
from tests.videos import Recipe, make_video

PICTURES = 40


@pytest.fixture
def clip(tmp_path: Path) -> list[LivePacket]:
    return packets_of(make_video(tmp_path, Recipe(frames=PICTURES, gop=10, b_frames=2)))


class Served:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "run" / ("long" * 30) / "live.sock"
        self.sources = Pushed(folder).sources
        self.handover = FeedHandover(self.sources, self.path)

    def access(self, *, look: bool = False, token: str = "", transport: Transport = "rtmp") -> SourceAccess:
        address, invited = self.handover.invite("v", look=look)
        return SourceAccess(
            url=address, token=token or invited, transport=transport, loopback_only=True, networks=(),
            connect_timeout=5.0, read_timeout=5.0,
        )  # fmt: skip


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """At a path that is too long for a socket's name."""
    served = Served(tmp_path)
    async with served.handover.serving():
        yield served
    assert not served.path.exists()


def read(access: SourceAccess) -> tuple[list[list[float]], list[bool]]:
    """The times of the pictures of each input, in seconds, and which inputs go on."""
    source = LiveSource(access, lambda: None)
    with contextlib.closing(source):
        times: list[list[float]] = []
        goes_on = []
        for video in source.inputs():
            goes_on.append(video.goes_on)
            times.append([float(picture.time or 0.0) for picture in video.pictures()])
        return times, goes_on


async def test_every_picture_comes_in_its_order_and_the_end_too(
    served: Served, clip: list[LivePacket]
) -> None:
    async with served.sources.publisher("v") as feed:
        reading = asyncio.create_task(asyncio.to_thread(read, served.access()))
        for one in clip:
            feed.publish(one)
            await asyncio.sleep(0)
        feed.end()
        async with asyncio.timeout(60):
            ((times,), goes_on) = await reading
    assert times == pytest.approx(sorted(one.pts / CLOCK_RATE for one in clip), abs=0.0011)
    assert goes_on == [False]
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(served.path.parent.stat().st_mode) == 0o700


async def test_another_format_is_another_input_that_goes_on(
    served: Served, clip: list[LivePacket], tmp_path: Path
) -> None:
    other = packets_of(make_video(tmp_path, Recipe(frames=10, gop=10, width=320, height=240), "other"))
    async with served.sources.publisher("v") as feed:
        for one in clip:
            feed.publish(one)
        for one in other:
            shift = 2 * CLOCK_RATE
            feed.publish(
                LivePacket(one.format, one.data, one.pts + shift, one.dts + shift, one.keyframe, 9.0)
            )
        feed.end()
    times, goes_on = await asyncio.to_thread(read, served.access())
    assert (list(map(len, times)), goes_on) == ([PICTURES, 10], [False, True])
    assert times[1][0] == pytest.approx(2.0, abs=0.1)


async def test_a_publisher_that_breaks_off_is_told_apart(served: Served, clip: list[LivePacket]) -> None:
    async with served.sources.publisher("v") as feed:
        for one in clip:
            feed.publish(one)
    with pytest.raises(SourceError, match="the publisher's connection broke") as failed:
        await asyncio.to_thread(read, served.access())
    assert not failed.value.permanent


async def test_an_end_in_order_without_a_picture_is_not_the_end_of_the_video(
    served: Served, clip: list[LivePacket]
) -> None:
    async with served.sources.publisher("v") as feed:
        feed.publish(clip[0])
        feed.begin_anew()
        feed.end()
    with pytest.raises(SourceError, match="ended before its first picture") as failed:
        await asyncio.to_thread(read, served.access(look=True))
    assert not failed.value.permanent


async def test_nobody_gets_in_without_an_invitation_or_twice(served: Served, clip: list[LivePacket]) -> None:
    async with served.sources.publisher("v") as feed:
        for one in clip:
            feed.publish(one)
        feed.end()
        access = served.access(look=True)
        assert await asyncio.to_thread(read, access)
        for token in (access.token, "0" * 32):
            with pytest.raises(SourceError, match="nobody publishes now"):
                await asyncio.to_thread(read, served.access(token=token))


async def test_no_publisher_no_pictures(served: Served) -> None:
    with pytest.raises(SourceError, match="nobody publishes now"):
        await asyncio.to_thread(read, served.access())


async def test_a_decoder_that_goes_is_forgotten(served: Served, clip: list[LivePacket]) -> None:
    async with asyncio.timeout(60), served.sources.publisher("v") as feed:
        feed.publish(clip[0])
        source = await asyncio.to_thread(LiveSource, served.access(look=True), lambda: None)
        while feed.readers < 2:  # one is held for who will follow
            await asyncio.sleep(0.01)
        source.close()
        while feed.readers > 1:
            await asyncio.sleep(0.01)


async def test_what_is_said_too_long_is_no_frame(tmp_path: Path) -> None:
    for said, words in (
        (LENGTH.pack(8) + bytes(8) + LENGTH.pack(BROKEN - 1), "bytes at once"),
        (LENGTH.pack(9), "something else"),
        (LENGTH.pack(BROKEN), "broke off"),
        (LENGTH.pack(8) + bytes(8) + LENGTH.pack(100), "no more"),
    ):
        path = tmp_path / "live.sock"

        async def answer(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = said
        ) -> None:
            await reader.readexactly(1)  # the token
            writer.write(said)
            writer.close()

        async with await asyncio.start_unix_server(answer, path):
            access = SourceAccess(url=str(path), token="t", transport="rtmp", loopback_only=True, networks=())
            with pytest.raises(SourceError, match=words):
                await asyncio.to_thread(read, access)
        path.unlink(missing_ok=True)
