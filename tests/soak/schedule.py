"""An hour's worth of live video gone wrong, as a list of acts in random order, and who plays them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.soak import other_acts, rtmp_acts, webrtc_acts
from tests.soak.stage import Act, Stage

HOUR: Final[dict[Act, int]] = {
    rtmp_acts.publish_in_order: 60,
    rtmp_acts.several_at_once: 20,
    rtmp_acts.killed_and_back: 90,
    rtmp_acts.killed_for_good: 60,
    rtmp_acts.gstreamer: 40,
    rtmp_acts.second_publisher: 40,
    rtmp_acts.cancelled: 60,
    rtmp_acts.wrong_keys: 60,
    rtmp_acts.half_handshake: 120,
    rtmp_acts.byte_by_byte: 20,
    rtmp_acts.garbage: 90,
    rtmp_acts.garbage_pictures: 60,
    rtmp_acts.oversized: 40,
    rtmp_acts.silent: 30,
    rtmp_acts.deaf: 20,
    rtmp_acts.flood: 20,
    webrtc_acts.publish_and_delete: 60,
    webrtc_acts.publish_and_vanish: 40,
    webrtc_acts.ffmpegs_whip: 20,
    webrtc_acts.abandoned: 40,
    webrtc_acts.malformed_offers: 30,
    webrtc_acts.wrong_tokens: 30,
    webrtc_acts.second_publisher: 30,
    webrtc_acts.cancelled: 40,
    webrtc_acts.viewers: 30,
    webrtc_acts.viewer_of_any: 90,
    other_acts.stalled_event_readers: 40,
    other_acts.kill_decoder: 60,
    other_acts.kill_worker: 20,
    other_acts.kill_encoder: 20,
    other_acts.killed_while_it_is_looked_at: 20,
}
"""How often each comes in an hour: about one every three seconds in all. They are played as fast as the machine can,
a few at a time."""
_LANES: Final = 8
_ACT_SECONDS: Final = 150.0


class Turn(NamedTuple):
    """`seed`: of all that is random in it."""

    seed: int
    act: Act


def an_hour(seed: int, share: float = 1.0) -> list[Turn]:
    """`share` of an hour's acts in random order, each at least once."""
    acts = [act for act, count in HOUR.items() for _ in range(max(1, round(count * share)))]
    random.Random(seed).shuffle(acts)
    return [Turn(seed * 100_000 + number, act) for number, act in enumerate(acts)]


async def play(stage: Stage, turns: Sequence[Turn]) -> None:
    """A few at a time. Raises an ExceptionGroup that names the turn that failed."""
    coming = iter(turns)

    async def lane() -> None:
        for turn in coming:
            try:
                async with asyncio.timeout(_ACT_SECONDS):
                    await turn.act(stage, random.Random(turn.seed))
            except Exception as error:
                error.add_note(f"in {turn.act.__module__}.{turn.act.__name__}, seed {turn.seed}")
                raise

    async with asyncio.TaskGroup() as tasks:
        for number in range(_LANES):
            tasks.create_task(lane(), name=f"lane {number}")
