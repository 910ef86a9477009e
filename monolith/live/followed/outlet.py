"""What waits in a decoder process for those who watch its source: bounded, and never waited for.

Rules:
- The newest group of pictures is kept, whether somebody watches or not: who begins to watch sees a picture at once.
- Packets that are not due yet wait; the rest goes out as soon as it can, while somebody watches.
- Where the program does not keep up, everything that waits to go out is dropped, up to the next keyframe, and counted.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from monolith.live.feeds import GROUP_BYTES, NewestGroup
from monolith.live.followed.messages import Pictures
from monolith.live.packets import CLOCK_RATE, LivePacket

OUT_BYTES: Final = 8 << 20
OUT_SECONDS: Final = 3.0
"""So much may wait to go out, in bytes or in seconds of media."""


class Outlet:
    """Times are seconds of a steady clock, but `arrived` (Unix seconds)."""

    def __init__(self) -> None:
        self._early: deque[tuple[float, LivePacket]] = deque()
        self._early_bytes = 0
        self._group = NewestGroup()
        self._out: deque[LivePacket] = deque()
        self._out_bytes = 0
        self._watched = False
        self._begins = False
        self._until_keyframe = False
        self._dropped = 0

    def put(self, packet: LivePacket, due: float) -> None:
        """Take the next packet; `release` lets it go when it is due, or when too much waits."""
        self._early.append((due, packet))
        self._early_bytes += packet.cost

    def watch(self, watched: bool) -> None:
        """Somebody watches from now on, or nobody does."""
        self._watched, self._begins, self._until_keyframe = watched, watched, False
        self._clear_out()

    def release(self, now: float, arrived: float) -> None:
        """What is due now has arrived."""
        while self._early and (self._early[0][0] <= now or self._early_bytes > GROUP_BYTES):
            _, packet = self._early.popleft()
            self._early_bytes -= packet.cost
            packet = msgspec.structs.replace(packet, arrived=arrived)
            self._group.add(packet)
            if self._watched and not self._begins:
                self._offer(packet)

    def next_due(self) -> float | None:
        """When `release` will have something to do that matters; None: not before there is another packet."""
        return self._early[0][0] if self._early and self._watched else None

    def take(self) -> Pictures | None:
        """What is to be said now; None: nothing."""
        dropped, self._dropped = self._dropped, 0
        if self._begins:
            self._begins = False
            packets = tuple(self._group.packets)
            self._until_keyframe = not packets
            return Pictures(packets, newest_group=True, group_seconds=self._group.seconds, dropped=dropped)
        if not self._out:
            self._dropped = dropped
            return None
        packets = tuple(self._out)
        self._clear_out()
        return Pictures(packets, dropped=dropped)

    def _offer(self, packet: LivePacket) -> None:
        if self._is_full(packet):
            self._dropped += len(self._out)
            self._clear_out()
            self._until_keyframe = True
        if self._until_keyframe and not packet.keyframe:
            self._dropped += 1
            return
        self._until_keyframe = False
        self._out.append(packet)
        self._out_bytes += packet.cost

    def _is_full(self, packet: LivePacket) -> bool:
        if not self._out:
            return False
        seconds = (packet.dts - self._out[0].dts) / CLOCK_RATE
        return seconds > OUT_SECONDS or self._out_bytes + packet.cost > OUT_BYTES

    def _clear_out(self) -> None:
        self._out.clear()
        self._out_bytes = 0
