"""Followers as their parent sees them: they crash, hang, fall silent; slots and segments survive. Real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monolith.application.ports import FollowMessage
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import DecoderDiedError, SourceError
from monolith.ingest.messages import FrameReady, Progress, SegmentCut, SegmentDone
from monolith.ingest.sessions import FollowSession
from tests.children.orphans import wait_until_gone
from tests.integration.followed import access_to, follow, follow_request, start_of
from tests.peers.scripted_http import Handler, Request, answering, head, serving, whole
from tests.videos import Recipe, make_video


@pytest.fixture
async def pool(slots: FrameSlots) -> AsyncIterator[DecoderPool]:
    async with DecoderPool(slots, 2, silence_timeout=4.0) as pool:
        yield pool


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return make_video(tmp_path, Recipe(".ts", frames=60, gop=10)).read_bytes()


def half_then_silent(data: bytes) -> Handler:
    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", Content_Length=len(data)) + data[: len(data) // 2])
        await writer.drain()
        await asyncio.Event().wait()

    return handler


async def test_a_killed_follower_is_told_and_its_slots_are_the_callers(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, data: bytes
) -> None:
    async with serving(half_then_silent(data)) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http"), tmp_path)
        with pytest.raises(DecoderDiedError, match="was killed by signal 9"):
            async with pool.follow(request) as session:
                await session.lend([0, 1])
                while not isinstance(await anext(session), FrameReady):
                    pass
                (pid,) = pool.pids
                os.kill(pid, signal.SIGKILL)
                async for _ in session:
                    pass
        assert session.outstanding_slots <= {0, 1}

    async with serving(answering(whole(data))) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http"), tmp_path, first_frame=31)
        story = await follow(pool, slots, request, tmp_path)
    assert story.shown == {number: number for number in range(31, 61)}


async def but_progress(session: FollowSession) -> FollowMessage:
    """The next message that is more than a sign of life."""
    while isinstance(message := await anext(session), Progress):
        pass
    return message


async def test_a_slow_source_is_not_taken_for_a_hang_but_a_stopped_process_is(
    pool: DecoderPool, tmp_path: Path, data: bytes
) -> None:
    """The server is silent for longer than the pool's patience; then the process is."""
    async with serving(half_then_silent(data)) as server:
        request = follow_request(
            access_to(f"{server.base}/a.ts", "http", read_timeout=60.0), tmp_path, frame_step=50
        )
        async with pool.follow(request) as session:
            waiting = asyncio.create_task(anext(session))
            assert await waiting
            waiting = asyncio.create_task(but_progress(session))
            done, _ = await asyncio.wait({waiting}, timeout=6)
            assert not done  # signs of life came for longer than the pool would have waited without
            (pid,) = pool.pids
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(DecoderDiedError, match=r"said nothing for 4 s: killed"):
                await waiting


async def test_a_follower_without_slots_waits_and_lives(
    pool: DecoderPool, tmp_path: Path, data: bytes
) -> None:
    async with serving(answering(whole(data))) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http"), tmp_path)
        async with pool.follow(request) as session:
            assert await anext(session)  # connected
            waiting = asyncio.create_task(but_progress(session))
            done, _ = await asyncio.wait({waiting}, timeout=6)
            assert not done
            await session.lend([2])
            assert isinstance(await waiting, FrameReady)


async def test_nothing_comes_between_a_cut_and_the_next_segment(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, data: bytes
) -> None:
    async with serving(answering(whole(data))) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http"), tmp_path, segment_seconds=0.4)
        async with pool.follow(request) as session:
            await session.lend(range(slots.count))
            messages = aiter(session)
            while not isinstance(message := await anext(messages), SegmentCut):
                if isinstance(message, FrameReady):
                    await session.lend([message.slot])
            assert (message.last_frame, message.frames_seen) == (10, 10)
            waiting = asyncio.ensure_future(but_progress(session))
            done, _ = await asyncio.wait({waiting}, timeout=0.5)
            assert not done
            await session.start_segment(start_of(1, tmp_path))
            assert isinstance(first := await waiting, FrameReady)
            assert first.frame.frame_number == 11 and first.frame.offset == 0
            await session.cancel()
            ended = [message async for message in messages][-1]
    assert isinstance(ended, SegmentDone) and not ended.end_of_source and ended.broken is None


async def test_a_source_cancelled_between_segments_says_no_frames(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, data: bytes
) -> None:
    async with serving(answering(whole(data))) as server:
        request = follow_request(
            access_to(f"{server.base}/a.ts", "http"), tmp_path, segment_seconds=0.4, frame_step=5
        )
        async with pool.follow(request) as session:
            await session.lend(range(slots.count))
            async for message in session:
                if isinstance(message, SegmentCut):
                    break
            await session.cancel()
            (done,) = [message async for message in session]
    assert isinstance(done, SegmentDone)
    assert (done.last_frame, done.frames_seen) == (None, 0)


async def test_a_pack_that_cannot_be_written_is_a_failure_that_may_pass(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, data: bytes
) -> None:
    async with serving(answering(whole(data))) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http"), tmp_path / "nowhere")
        with pytest.raises(SourceError, match="No such file or directory") as caught:
            await follow(pool, slots, request, tmp_path)
    assert not caught.value.permanent


async def test_leaving_a_session_ends_it_and_the_process_goes_on(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, data: bytes
) -> None:
    async with serving(half_then_silent(data)) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http", read_timeout=60.0), tmp_path)
        async with pool.follow(request) as session:
            await session.lend(range(slots.count))
            await anext(session)
        pids = pool.pids
    async with serving(answering(whole(data))) as server:
        info = await pool.probe_source(access_to(f"{server.base}/a.ts", "http"))
    assert info.frame_rate == pytest.approx(25)
    assert pool.pids == pids


async def test_closing_the_pool_ends_followers(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, data: bytes
) -> None:
    async with serving(half_then_silent(data)) as server:
        request = follow_request(access_to(f"{server.base}/a.ts", "http"), tmp_path)
        with pytest.raises(DecoderDiedError):
            async with pool.follow(request) as session:
                await session.lend(range(slots.count))
                await anext(session)
                pids = pool.pids
                await pool.close()
                async for _ in session:
                    pass
    await wait_until_gone(pids)
