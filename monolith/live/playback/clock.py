"""RTP times of one viewer: always growing, and of which picture each of them is.

Where a reader begins with pictures that are past (a group of pictures up to now), they get times a millisecond apart
just before the newest of them: the player is to hurry through them, not to lag behind by their length for good.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from monolith.live.packets import CLOCK_RATE, LivePacket

HURRY_TICKS: Final = CLOCK_RATE // 1000
_KEPT: Final = 1024
"""Pictures whose times are remembered: half a minute."""


def milliseconds(pts: int) -> int:
    """A packet's time as a decoder process is told it (`monolith.live.matroska`)."""
    return max(0, pts * 1000 // CLOCK_RATE)


class _Sent(NamedTuple):
    ticks: int
    arrived: float
    in_step: bool


class ViewerClock:
    """Ticks (`CLOCK_RATE`, from about 0) for the packets of one viewer."""

    def __init__(self) -> None:
        self._last = -1
        self._shift: int | None = None
        self._past = 0
        self._newest_past = 0
        self._step = 1
        self._sent: OrderedDict[int, _Sent] = OrderedDict()

    def begin(self, past: list[LivePacket], elapsed: float | None) -> None:
        """Another reader begins, with packets that are past. `elapsed`: seconds since the last packet where it reads
        another connection, whose times have nothing to do with those before; None where they go on."""
        if elapsed is not None:
            self._shift = None
            self._sent.clear()
        self._past = len(past)
        if not past:
            if self._shift is None:
                self._last += max(0, round((elapsed or 0.0) * CLOCK_RATE))
            return
        self._newest_past = past[-1].pts
        newest = self._last + self._past * HURRY_TICKS + round((elapsed or 0.0) * CLOCK_RATE)
        if self._shift is not None:
            newest = max(self._newest_past + self._shift, self._last + self._past)
        self._step = max(1, min(HURRY_TICKS, (newest - self._last) // self._past))
        self._shift = newest - self._newest_past

    def ticks(self, pts: int, arrived: float = 0.0) -> int:
        """The time of the next packet of the reader that began last; `arrived` (Unix seconds) is remembered with it."""
        if self._shift is None:
            self._shift = self._last + 1 - pts
        ticks = pts + self._shift
        if self._past:
            self._past -= 1
            ticks = self._newest_past + self._shift - self._past * self._step
        self._last = max(ticks, self._last + 1)
        in_step = self._last == pts + self._shift
        self._remember(milliseconds(pts), _Sent(self._last, arrived, in_step))
        return self._last

    @property
    def hurries(self) -> bool:
        """Whether more packets come that are past."""
        return self._past > 0

    def of(self, source_milliseconds: int) -> int | None:
        """The ticks that the picture at this time of its source was sent with, if it was."""
        sent = self._sent.get(source_milliseconds)
        return None if sent is None else sent.ticks

    def arrived(self, source_milliseconds: int) -> float | None:
        """When the publisher's packet with this picture came, Unix seconds, if the picture was sent."""
        sent = self._sent.get(source_milliseconds)
        return None if sent is None else sent.arrived

    def in_step(self, source_milliseconds: int) -> bool:
        """Whether the picture was sent at its own distance from those after it: not hurried through."""
        sent = self._sent.get(source_milliseconds)
        return sent is not None and sent.in_step

    def is_past(self, source_milliseconds: int) -> bool:
        """Whether a later picture has been sent."""
        return bool(self._sent) and source_milliseconds < next(reversed(self._sent))

    def _remember(self, source_milliseconds: int, sent: _Sent) -> None:
        self._sent[source_milliseconds] = sent
        self._sent.move_to_end(source_milliseconds)
        if len(self._sent) > _KEPT:
            self._sent.popitem(last=False)
