"""Times of followed packets, as viewers get them, and when each of them is due."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from monolith.live.packets import CLOCK_RATE

TICKS: Final = CLOCK_RATE // 1000
"""In a millisecond."""
_LONGEST_JUMP: Final = 60_000
"""Milliseconds from one packet to the next, besides those that passed; more is a break in the source's times."""
_UNORDERED: Final = 1_000
"""Milliseconds by which pts may go back where there is no dts: B-frames."""
_STEP: Final = 40
_LONGEST_STEP: Final = 1_000
_KEPT: Final = 1024
"""A decoder holds back fewer pictures."""


class PacketClock:
    """Whole milliseconds for the packets of one connection: the source's own, with its breaks closed, never below 0.

    They are whole since results are tied to pictures by them (`monolith.live.playback.frame_times`).
    """

    def __init__(self) -> None:
        self._shift: int | None = None
        self._last = 0
        self._step = _STEP
        self._broken = False
        self._given: OrderedDict[int, int] = OrderedDict()

    def break_off(self) -> None:
        """The next packet's own times have nothing to do with those before."""
        self._broken = True

    def at(self, pts: float | None, dts: float | None, waited: float) -> tuple[int, int]:
        """Milliseconds of the next packet: of showing, of decoding. `pts`, `dts`: seconds as the source has them;
        `waited`: seconds since the packet before, as far as they are to show."""
        own = dts if dts is not None else pts
        if own is None:
            self._last += max(1, round(waited * 1000)) if self._shift is not None else 0
            return self._last, self._last
        first = min(_milliseconds(own), _milliseconds(own if pts is None else pts))
        if self._shift is None:
            self._shift = max(0, -first)
            self._last = max(self._last, _milliseconds(own) + self._shift)
        now = self._closed(_milliseconds(own), waited, tolerance=0 if dts is not None else _UNORDERED)
        if 0 < now - self._last <= _LONGEST_STEP:
            self._step = now - self._last
        self._last = max(self._last, now)
        return self._last if pts is None else max(0, _milliseconds(pts) + self._shift), self._last

    def _closed(self, own: int, waited: float, *, tolerance: int) -> int:
        assert self._shift is not None
        ahead = own + self._shift - self._last
        if self._broken or not -tolerance <= ahead <= _LONGEST_JUMP + waited * 1000:
            self._shift = self._last + max(self._step, round(waited * 1000)) - own
            self._broken = False
        return own + self._shift

    def note(self, pts: int, milliseconds: int) -> None:
        """The picture whose pts is `pts`, in the source's units, is shown at `milliseconds`."""
        self._given[pts] = milliseconds
        self._given.move_to_end(pts)
        if len(self._given) > _KEPT:
            self._given.popitem(last=False)

    def of(self, pts: int) -> int | None:
        return self._given.get(pts)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class Spread:
    """When packets that come in bursts (a segment at once) are due: as far apart as they show, once they are late as
    late as the latest of them. What they wait longer than need be is made good by going a little faster."""

    MOST_SECONDS: Final = 12.0
    _WINDOW: Final = 20.0
    _FASTER: Final = 0.1

    def __init__(self) -> None:
        self._anchor: float | None = None
        self._last = 0.0
        self._window_from = 0.0
        self._least = float("inf")
        self._spare = 0.0

    def due(self, media: float, now: float) -> float:
        """For the packet that is decoded at `media`, both in seconds and never going back. `now`: of a steady clock."""
        if self._anchor is None or now > self._anchor + media:
            self._anchor, self._spare = now - media, 0.0
        self._anchor -= self._caught_up(media - self._last)
        self._anchor = min(self._anchor, now + self.MOST_SECONDS - media)
        self._last = media
        due = self._anchor + media
        self._note(due - now, now)
        return due

    def _caught_up(self, step: float) -> float:
        gained = min(self._spare, max(0.0, step) * self._FASTER)
        self._spare -= gained
        return gained

    def _note(self, early: float, now: float) -> None:
        """Of the packets in a window, the least early one says what all of them could do without."""
        self._least = min(self._least, early)
        if now - self._window_from < self._WINDOW:
            return
        if self._window_from:
            self._spare = max(0.0, self._least)
        self._window_from, self._least = now, float("inf")
