"""The pool of decoder processes: reuse, crashes, silence, shutdown. Real processes, killed for real."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from monolith.inference.shared_memory import FrameSlots, SlotPool
from monolith.ingest.decoder_process import DecoderProcess
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import DecoderDiedError, SourceError
from monolith.ingest.messages import FrameReady
from tests.children.orphans import wait_until_gone
from tests.integration.decoding import SLOTS, consume, probe, run, segment_request
from tests.videos import Recipe, make_video
from tests.workers.harness import until


async def test_a_killed_decoder_loses_no_slot_and_the_segment_is_done_again(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=40))
    info = await probe(pool, path, 60.0)
    owned = SlotPool(SLOTS)
    held = [await owned.acquire("segment") for _ in range(SLOTS)]
    (pid,) = pool.pids

    with pytest.raises(DecoderDiedError, match="was killed by signal 9"):
        async with pool.open(segment_request(path, info)) as session:
            await session.lend(held)
            ready = await anext(session)
            assert isinstance(ready, FrameReady)
            os.kill(pid, signal.SIGKILL)
            await consume(session, slots)
    assert owned.reclaim("segment", session.outstanding_slots) == len(session.outstanding_slots)
    assert owned.in_use + len(session.outstanding_slots) == SLOTS

    outcome = await run(pool, slots, segment_request(path, info, pack="second"))
    assert outcome.shown == {n: n for n in range(1, 41)}
    assert pid not in pool.pids


async def test_a_sequential_segment_after_a_crash_is_decoded_from_the_start(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(".ts", frames=60))
    info = await probe(pool, path)
    first, second, *_ = info.segments
    await run(pool, slots, segment_request(path, info, first))
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    await wait_until_gone({pid})

    outcome = await run(pool, slots, segment_request(path, info, second, pack="second"))

    assert second.last_frame is not None
    assert outcome.numbers == list(range(second.first_frame, second.last_frame + 1))
    assert outcome.shown == {n: n for n in outcome.numbers}


async def test_the_process_that_has_a_sequential_source_open_goes_on_with_it(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(".ts", frames=60))
    info = await probe(pool, path)
    async with pool.open(segment_request(path, info, info.segments[0])) as session:
        await session.lend(range(SLOTS))
        await consume(session, slots)
        (owner,) = pool.pids
        other = make_video(tmp_path, Recipe(frames=20), "other")
        await probe(pool, other)
        assert len(pool.pids) == 2
    await probe(pool, other)  # goes to the one that keeps nothing
    await probe(pool, other)

    seen = 0
    for plan in info.segments[1:]:
        outcome = await run(pool, slots, segment_request(path, info, plan, pack=str(plan.segment)))
        assert outcome.done is not None
        seen += outcome.done.frames_seen
        assert owner in pool.pids

    assert seen == 60 - (info.segments[0].last_frame or 0)  # nothing was decoded a second time


async def test_segments_run_at_the_same_time(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=60))
    info = await probe(pool, path, 1.0)
    left, right = info.segments[:2]

    async with (
        pool.open(segment_request(path, info, left, pack="left")) as one,
        pool.open(segment_request(path, info, right, pack="right")) as two,
    ):
        assert len(pool.pids) == 2
        await one.lend([0, 1])
        await two.lend([2, 3])
        outcomes = await asyncio.gather(consume(one, slots), consume(two, slots))

    assert [outcome.numbers for outcome in outcomes] == [
        list(range(plan.first_frame, (plan.last_frame or 0) + 1)) for plan in (left, right)
    ]


async def test_requests_wait_for_a_process(slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    async with DecoderPool(slots, 1) as pool:
        found = await asyncio.gather(*(probe(pool, path) for _ in range(4)))
        assert [info.frames for info in found] == [20] * 4
        assert len(pool.pids) == 1


async def test_a_decoder_that_falls_silent_is_killed(slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=60))
    async with DecoderPool(slots, 1, silence_timeout=3.0) as pool:
        info = await probe(pool, path, 60.0)
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)

        with pytest.raises(DecoderDiedError, match=r"said nothing for 3 s: killed"):
            async with pool.open(segment_request(path, info)) as session:
                await session.lend(range(SLOTS))
                await consume(session, slots)

        assert session.outstanding_slots == frozenset(range(SLOTS))
        await wait_until_gone({pid})
        assert (await probe(pool, path)).frames == 60


async def test_a_probe_has_a_deadline(slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    async with DecoderPool(slots, 1) as pool:
        await probe(pool, path)
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)

        with pytest.raises(DecoderDiedError, match=r"the probe took longer than 0\.3 s"):
            await pool.probe(path, tmp_path / "scan.npy", 1.0, timeout=0.3)
        await wait_until_gone({pid})


async def test_a_pipe_is_no_video(pool: DecoderPool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match=r"pipe\.mp4 is no regular file"):
        await probe(pool, tmp_path / "pipe.mp4")


async def test_an_idle_decoder_that_died_is_replaced(pool: DecoderPool, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    await probe(pool, path)
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    await wait_until_gone({pid})

    assert (await probe(pool, path)).frames == 20
    assert pid not in pool.pids and len(pool.pids) == 1


async def test_idle_decoders_are_stopped(slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    async with DecoderPool(slots, 2, idle_timeout=0.2) as pool:
        await probe(pool, path)
        pids = pool.pids
        await wait_until_gone(pids)
        assert (await probe(pool, path)).frames == 20
        assert not pids & pool.pids


async def test_dead_idle_decoders_fail_no_request(pool: DecoderPool, tmp_path: Path) -> None:
    """Two requests that find two dead ones at the same moment."""
    path = make_video(tmp_path, Recipe(frames=20))
    await asyncio.gather(probe(pool, path), probe(pool, path))
    pids = pool.pids
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await wait_until_gone(pids)

    found = await asyncio.gather(probe(pool, path), probe(pool, path))

    assert [info.frames for info in found] == [20, 20]


async def test_a_decoder_whose_end_fails_is_told_and_the_others_end(
    slots: FrameSlots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    stop = DecoderProcess.stop
    stopped: list[str] = []

    async def stop_badly(process: DecoderProcess) -> None:
        await stop(process)
        stopped.append(process.name)
        if len(stopped) == 1:
            raise RuntimeError("a bug")

    async with DecoderPool(slots, 2, idle_timeout=0.2) as pool:
        monkeypatch.setattr(DecoderProcess, "stop", stop_badly)
        await asyncio.gather(probe(pool, path), probe(pool, path))
        await wait_until_gone(pool.pids)
    assert sorted(stopped) == ["decoder 1", "decoder 2"]
    assert f"end of {stopped[0]} failed" in caplog.messages


async def test_a_reaper_that_fails_is_told_and_replaced(
    slots: FrameSlots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path, Recipe(frames=20))

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with DecoderPool(slots, 1, idle_timeout=0.2) as pool:
        await probe(pool, path)
        with monkeypatch.context() as patched:
            patched.setattr(pool, "_retire_idle", broken)
            await until(lambda: "reaper of idle decoders failed" in caplog.messages)
        await probe(pool, path)
        await wait_until_gone(pool.pids)


async def test_closing_while_a_decoder_starts(slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    pool = DecoderPool(slots, 1)
    asking = asyncio.create_task(probe(pool, path))
    await asyncio.sleep(0)  # it starts
    await pool.close()
    with pytest.raises(DecoderDiedError, match="shut down"):
        await asking
    assert pool.pids == frozenset()


async def test_closing_ends_everything(slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=60))
    pool = DecoderPool(slots, 2)
    info = await probe(pool, path, 60.0)

    with pytest.raises(DecoderDiedError):
        async with pool.open(segment_request(path, info)) as session:
            await session.lend([0])
            await anext(session)
            pids = pool.pids
            await pool.close()
            await consume(session, slots)

    await wait_until_gone(pids)
    assert pool.pids == frozenset()
    with pytest.raises(DecoderDiedError, match="shut down"):
        await probe(pool, path)
    await pool.close()


async def test_a_cancelled_consumer_leaves_a_usable_pool(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=60))
    info = await probe(pool, path, 60.0)
    started = asyncio.Event()

    async def work() -> None:
        async with pool.open(segment_request(path, info)) as session:
            await session.lend([0])
            await anext(session)
            started.set()
            await consume_nothing()

    async def consume_nothing() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await run(pool, slots, segment_request(path, info, pack="second"))).numbers == list(range(1, 61))
    assert len(pool.pids) == 1


async def test_no_decoder_outlives_a_killed_parent(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=60))
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.children.link_parent",
        "decoder",
        str(path),
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    pids = {int(pid) for pid in (await parent.stdout.readline()).split()}
    assert pids

    parent.kill()
    await parent.wait()

    await wait_until_gone(pids)


async def test_a_signal_to_the_whole_group_ends_no_decoder(tmp_path: Path) -> None:
    """Ctrl-C and a service manager's stop reach every process of the group: the parent alone decides."""
    path = make_video(tmp_path, Recipe(frames=60))
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.children.link_parent",
        "decoder",
        str(path),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pids = {int(pid) for pid in (await parent.stdout.readline()).split()}

    for pid in pids:
        os.kill(pid, signal.SIGINT)
    os.killpg(parent.pid, signal.SIGTERM)

    assert int(await parent.stdout.readline()) == 59
    assert await parent.wait() == 0
    await wait_until_gone(pids)


async def test_decoders_that_do_not_start_are_told(
    slots: FrameSlots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.ingest.decoder_process._MODULE", "tests.children.nowhere")
    async with DecoderPool(slots, 1) as pool:
        with pytest.raises(DecoderDiedError, match="No module named"):
            await probe(pool, tmp_path / "video.mp4")
        assert pool.pids == frozenset()


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [("garbage", "announced a message"), ("unasked", "sent what is no message")],
)
async def test_decoders_that_talk_nonsense_are_killed(
    slots: FrameSlots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, told: str
) -> None:
    monkeypatch.setattr("monolith.ingest.decoder_process._MODULE", "tests.children.link_child")
    monkeypatch.setattr("monolith.ingest.decoder_process._arguments", lambda _: (behaviour,))
    async with DecoderPool(slots, 1) as pool:
        with pytest.raises(DecoderDiedError, match=told):
            await probe(pool, tmp_path / "video.mp4")
        assert pool.pids == frozenset()
