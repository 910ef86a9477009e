"""Decoder processes do what their requests say. Real processes, real files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from monolith.application.log_context import log_context
from monolith.frames import jpeg
from monolith.frames.pack import read_jpeg
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import SourceError
from monolith.ingest.messages import FrameReady, ReadStored, SegmentDone, StoredFrameSource
from tests.integration.decoding import SLOTS, Outcome, probe, run, segment_request
from tests.media import sample_clip
from tests.videos import Recipe, damage_packets, full_decode, make_video, read_barcode


async def _segments(pool: DecoderPool, slots: FrameSlots, path: Path, *, backwards: bool) -> list[Outcome]:
    info = await probe(pool, path)
    assert len(info.segments) > 2
    plans = reversed(info.segments) if backwards else info.segments
    found = [
        await run(pool, slots, segment_request(path, info, plan, pack=f"{plan.segment}.mjpeg"))
        for plan in plans
    ]
    return found[::-1] if backwards else found


@pytest.mark.parametrize(
    ("recipe", "backwards"),
    [
        (Recipe(frames=60, b_frames=3, open_gop=True, durations=(40, 25)), True),
        (Recipe(".mkv", "libx265", frames=60, b_frames=2, open_gop=True), True),
        (Recipe(".webm", "libvpx-vp9", frames=60), True),
        (Recipe(".ts", frames=60, b_frames=2), False),
        (Recipe(".ts", frames=60, b_frames=2), True),
    ],
)
async def test_all_segments_are_the_full_decode(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, recipe: Recipe, backwards: bool
) -> None:
    path = make_video(tmp_path, recipe)

    outcomes = await _segments(pool, slots, path, backwards=backwards)

    frames = [frame for outcome in outcomes for frame in outcome.frames]
    shown = {number: what for outcome in outcomes for number, what in outcome.shown.items()}
    expected = list(enumerate(full_decode(path), 1))
    assert [(frame.frame_number, frame.timestamp) for frame in frames] == [
        (n, row.timestamp) for n, row in expected
    ]
    assert shown == {n: row.shown for n, row in expected}
    ends = [outcome.done for outcome in outcomes]
    assert all(done is not None and done.missing == () and done.warnings == () for done in ends)
    assert [done.end_of_source for done in ends if done] == [False] * (len(ends) - 1) + [True]


async def test_the_pack_holds_what_the_slots_held(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=40))
    info = await probe(pool, path)

    outcome = await run(pool, slots, segment_request(path, info, max_height=60))

    assert outcome.numbers == list(range(1, 41))
    for frame in outcome.frames:
        stored = jpeg.decode(read_jpeg(tmp_path / "pack.mjpeg", frame.offset, frame.length))
        assert stored.shape == (frame.height, frame.width, 3) == (60, 80, 3)
        assert read_barcode(stored) == frame.frame_number
    assert (tmp_path / "pack.mjpeg").stat().st_size == sum(frame.length for frame in outcome.frames)
    assert outcome.synced == sorted(outcome.synced) and outcome.synced[-1] == 40


@pytest.mark.parametrize("infer_from", ["stored", "source"])
async def test_models_see_the_stored_picture_or_the_source(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, infer_from: str
) -> None:
    path = tmp_path / "bikes.mp4"
    path.symlink_to(sample_clip("bikes.mp4"))
    info = await probe(pool, path, 60.0)

    request = segment_request(path, info, frame_step=100, infer_from=infer_from)
    async with pool.open(request) as session:
        await session.lend(range(SLOTS))
        frames = {}
        async for message in session:
            if isinstance(message, FrameReady):
                frame = message.frame
                frames[frame.frame_number] = slots.view(message.slot, frame.height, frame.width).copy()
                stored = jpeg.decode(read_jpeg(tmp_path / "pack.mjpeg", frame.offset, frame.length))
                same = np.array_equal(frames[frame.frame_number], stored)
                assert same == (infer_from == "stored")
                assert np.abs(frames[frame.frame_number].astype(int) - stored).mean() < 4

    assert sorted(frames) == [100, 200]


async def test_only_wanted_frames_come(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=50))
    info = await probe(pool, path, 60.0)

    outcome = await run(pool, slots, segment_request(path, info, frame_step=7, skip=(14, 42)))

    assert outcome.numbers == [7, 21, 28, 35, 49]
    assert outcome.shown == {n: n for n in outcome.numbers}
    assert outcome.done is not None
    assert (outcome.done.last_frame, outcome.done.end_of_source) == (50, True)


async def test_nothing_left_to_do(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    info = await probe(pool, path, 60.0)

    outcome = await run(pool, slots, segment_request(path, info, skip=tuple(range(1, 21))))

    assert outcome.frames == []
    assert outcome.done is not None and (outcome.done.missing, outcome.done.last_frame) == ((), 20)


async def test_frames_that_do_not_decode_are_missing_and_the_log_says_why(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path, Recipe(frames=30, gop=5))
    damage_packets(path, [9, 24])
    info = await probe(pool, path, 60.0)

    outcome = await run(pool, slots, segment_request(path, info))

    assert outcome.done is not None and outcome.done.missing == (10, 25)
    assert outcome.shown == {n: n for n in range(1, 31) if n not in (10, 25)}
    assert len(outcome.done.warnings) == 1 and "packets could not be decoded" in outcome.done.warnings[0]
    assert f"decoding '{path.name}': {outcome.done.warnings[0]}" in caplog.messages


async def test_a_lost_table_is_made_again(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    info = await probe(pool, path, 60.0)
    before = (tmp_path / "scan.npy").read_bytes()
    (tmp_path / "scan.npy").unlink()

    outcome = await run(pool, slots, segment_request(path, info))

    assert len(outcome.frames) == 20
    assert (tmp_path / "scan.npy").read_bytes() == before


async def test_a_changed_source_is_refused(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    info = await probe(pool, make_video(tmp_path, Recipe(frames=20)), 60.0)
    path = make_video(tmp_path, Recipe(frames=21))
    (tmp_path / "scan.npy").unlink()

    async with pool.open(segment_request(path, info)) as session:
        await session.lend(range(SLOTS))
        with pytest.raises(SourceError, match="the source has changed since it was scanned") as caught:
            await anext(session)
        assert session.outstanding_slots == frozenset(range(SLOTS))
    assert caught.value.permanent


async def test_a_bad_file_is_refused_and_the_process_stays(pool: DecoderPool, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    good = make_video(tmp_path, Recipe(frames=20))

    with pytest.raises(SourceError, match="the file is text") as caught:
        await probe(pool, tmp_path / "bad.mp4")
    pids = pool.pids

    assert caught.value.permanent
    assert (await probe(pool, good)).frames == 20
    assert pool.pids == pids


async def test_a_pack_that_cannot_be_written_is_worth_another_try(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=20))
    info = await probe(pool, path)

    with pytest.raises(SourceError, match=r"No such file or directory: none\.mjpeg") as caught:
        await run(pool, slots, segment_request(path, info, pack="gone/none.mjpeg"))
    assert not caught.value.permanent


async def test_stored_frames_come_back_in_order(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=40))
    info = await probe(pool, path)
    sources = []
    for plan in info.segments:
        outcome = await run(pool, slots, segment_request(path, info, plan, pack=f"{plan.segment}.mjpeg"))
        pack = str(tmp_path / f"{plan.segment}.mjpeg")
        sources += [StoredFrameSource(frame, pack) for frame in outcome.frames]

    again = await run(pool, slots, ReadStored(tuple(sources)))

    assert again.frames == [source.frame for source in sources]
    assert again.shown == {n: n for n in range(1, 41)}
    assert again.synced[-1] == 40


async def test_stored_frames_that_are_gone_are_missing(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path, Recipe(frames=10))
    info = await probe(pool, path)
    frames = (await run(pool, slots, segment_request(path, info))).frames
    pack = str(tmp_path / "pack.mjpeg")
    sources = [StoredFrameSource(frame, "/none" if frame.frame_number == 3 else pack) for frame in frames]

    with log_context(job="segment", video_id="7", segment=2):
        again = await run(pool, slots, ReadStored(tuple(sources)))

    assert again.numbers == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert again.done is not None
    assert (again.done.missing, again.done.warnings) == ((3,), ("frame 3: frame pack none is gone",))
    assert (
        "video 7, segment 2, reading stored frames (pack.mjpeg, none): frame 3: frame pack none is gone"
        in caplog.messages
    )


async def test_a_stored_picture_too_great_for_a_slot_is_not_given_up(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    """It is there: with greater slots it can be judged."""
    path = make_video(tmp_path, Recipe(frames=10))
    info = await probe(pool, path)
    frames = (await run(pool, slots, segment_request(path, info))).frames
    small = FrameSlots.create(SLOTS, frames[0].width * frames[0].height * 3 - 1)
    work = ReadStored(tuple(StoredFrameSource(frame, str(tmp_path / "pack.mjpeg")) for frame in frames))

    async with DecoderPool(small, 1) as other:
        with pytest.raises(
            SourceError, match=r"stored frame 1 of .* start with a frame height of at least"
        ) as caught:
            await run(other, small, work)
    small.close()
    assert not caught.value.permanent


async def test_a_decoder_waits_for_slots(slots: FrameSlots, tmp_path: Path) -> None:
    """With one slot lent, one frame comes; it is not taken for silence that the decoder has nowhere to write."""
    path = make_video(tmp_path, Recipe(frames=10))
    async with DecoderPool(slots, 1, silence_timeout=2.5) as pool:
        info = await probe(pool, path)
        async with pool.open(segment_request(path, info)) as session:
            await session.lend([2])
            first = await anext(session)
            assert isinstance(first, FrameReady) and (first.slot, first.frame.frame_number) == (2, 1)
            synced = await anext(session)
            waiting = asyncio.ensure_future(anext(session))
            done, _ = await asyncio.wait({waiting}, timeout=3.5)
            assert not done
            await session.lend([3])
            second = await waiting
            assert isinstance(second, FrameReady) and (second.slot, second.frame.frame_number) == (3, 2)
            assert synced is not None
        assert session.outstanding_slots == frozenset()


async def test_a_session_can_be_cancelled(pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=40))
    info = await probe(pool, path, 60.0)

    async with pool.open(segment_request(path, info)) as session:
        await session.lend([0, 1])
        async for message in session:
            if isinstance(message, FrameReady):
                await session.cancel()
            if isinstance(message, SegmentDone):
                assert message.missing == () and not message.end_of_source
                assert (message.last_frame or 0) < 40
    pids = pool.pids

    assert (await run(pool, slots, segment_request(path, info, pack="second"))).numbers == list(range(1, 41))
    assert pool.pids == pids


async def test_leaving_a_session_early_keeps_the_process(
    pool: DecoderPool, slots: FrameSlots, tmp_path: Path
) -> None:
    path = make_video(tmp_path, Recipe(frames=40))
    info = await probe(pool, path, 60.0)

    async with pool.open(segment_request(path, info)) as session:
        await session.lend([0, 1, 2])
        await anext(session)
    pids = pool.pids

    assert len(session.outstanding_slots) == 2
    assert (await run(pool, slots, segment_request(path, info, pack="second"))).numbers == list(range(1, 41))
    assert pool.pids == pids
