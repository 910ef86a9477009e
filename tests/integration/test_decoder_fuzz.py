"""Whatever bytes a file holds, a decoder answers: with frames that are what their numbers say, or with a reason."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import SourceError
from monolith.ingest.messages import FrameReady, SegmentDone
from tests.integration.decoding import SLOTS, probe, segment_request
from tests.videos import Recipe, make_video

_ROUNDS = 12


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` with some bytes overwritten, a piece cut out, or its end missing."""
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 30)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    if chance.random() < 0.4:
        at = chance.randrange(len(damaged))
        del damaged[at : at + chance.randint(1, 400)]
    if chance.random() < 0.3:
        del damaged[chance.randrange(len(damaged)) :]
    return bytes(damaged)


async def _decode(pool: DecoderPool, path: Path) -> None:
    """All segments of `path`. The numbers of each are in its range and ascend, or are counted as missing."""
    info = await probe(pool, path)
    for plan in info.segments:
        numbers: list[int] = []
        async with pool.open(segment_request(path, info, plan, pack=f"{plan.segment}.mjpeg")) as session:
            await session.lend(range(SLOTS))
            async for message in session:
                if isinstance(message, FrameReady):
                    numbers.append(message.frame.frame_number)
                    await session.lend([message.slot])
                elif isinstance(message, SegmentDone):
                    assert numbers == sorted(set(numbers))
                    assert not set(numbers) & set(message.missing)
                    if info.indexed and plan.last_frame is not None:
                        expected = set(range(plan.first_frame, plan.last_frame + 1))
                        assert set(numbers) | set(message.missing) == expected


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(frames=30, b_frames=2, width=96, height=64),
        Recipe(".mkv", "libx265", frames=20, b_frames=2, width=96, height=64),
        Recipe(".webm", "libvpx-vp9", frames=20, width=96, height=64),
        Recipe(".ts", "mpeg2video", frames=30, width=96, height=64),
        Recipe(".avi", "mpeg4", frames=30, width=96, height=64),
        Recipe(".flv", frames=20, width=96, height=64),
    ],
    ids=lambda recipe: f"{recipe.suffix}-{recipe.codec}",
)
async def test_damaged_files_get_an_answer(tmp_path: Path, recipe: Recipe) -> None:
    chance = random.Random(recipe.suffix)
    whole = make_video(tmp_path, recipe).read_bytes()
    slots = FrameSlots.create(SLOTS, 640 * 480 * 3)
    answers = []
    async with DecoderPool(slots, 1) as pool:
        for number in range(_ROUNDS):
            path = tmp_path / f"{number}{recipe.suffix}"
            path.write_bytes(_damaged(whole, chance))
            try:
                await _decode(pool, path)
                answers.append("decoded")
            except SourceError as error:
                answers.append(error.reason)
            assert len(pool.pids) == 1
    slots.close()
    assert "decoded" in answers
