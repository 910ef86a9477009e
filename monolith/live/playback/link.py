"""What a viewer's network can carry, told by the viewer's own reports, and how much of the video it is to get for that.

Rules:
- A link carries too little when it loses many packets in one report after another, when the viewer's estimate of it
  (REMB) falls far below what is sent, again and again, or when its pictures are lost (PLI) in one second after another,
  and packets with them.
  Few lost packets are no reason: they are sent again.
- Then the viewer gets less, one level at a time. What was heard before a change of level says nothing after it.
- After a pause one level more is tried: an estimate cannot tell, since it does not grow far beyond what is sent. When
  that was too much, the next pause is twice as long, up to a limit.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Final

RATE_SECONDS: Final = 2.0
_SETTLING_SECONDS: Final = 1.5
"""So long after a step down the network still carries what was sent before it."""
_MANY_LOST: Final = 0.1
_LOST_AT_FIRST: Final = 0.3
"""Share of the packets whose loss in two reports one after another is too much; in one, right after a step up."""
_LOST_AT_ALL: Final = 0.01
_CLOGGED_SECONDS: Final = 10.0
"""So long after a loss packets are spread over time."""
FASTEST: Final = 40e6
"""Bits/s: all at once, a large picture would overflow sockets on its way."""
_PACE: Final = 1.5
"""How much faster than pictures come they are sent where packets get lost: a keyframe takes a while then."""
_SLOWEST: Final = 500e3
_FAR_BELOW: Final = 0.75
_FALL: Final = 0.97
"""An estimate that is smaller than the one before by less is noise."""
_MEMORY_SECONDS: Final = 8.0
_FALLS: Final = 2
_LOST_SECONDS: Final = 3
FIRST_PAUSE: Final = 20.0
LONGEST_PAUSE: Final = 240.0
PROVEN_SECONDS: Final = 30.0
"""A level that held for so long was right to try."""


class Level(StrEnum):
    """What a viewer gets."""

    FULL = "full"
    SMALL = "small"
    """All pictures, smaller ones, encoded once for all such viewers."""
    KEYFRAMES = "keyframes"


class Evidence:
    """That a link carries too little. Times (`now`): seconds of any clock that only grows."""

    def __init__(self, now: float) -> None:
        self.estimate: int | None = None
        """Bits/s that the viewer thinks its link carries; None where it does not say."""
        self.loss = 0.0
        """Share of the packets that were lost at first, 0 to 1, as the viewer reported last."""
        self.clogged_until = float("-inf")
        self.begin(now, now + _SETTLING_SECONDS)

    def begin(self, now: float, settled_at: float, *, trying: bool = False) -> None:
        """Forget what was heard, and what will be until `settled_at`: it is about what was sent before. `trying`:
        whether more is sent than before."""
        self._began_at, self._settled_at, self._trying = now, settled_at, trying
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_bytes = 0
        self._bad_reports = 0
        self._falls: set[int] = set()
        self._lost: set[int] = set()

    def sent(self, size: int, now: float) -> None:
        """`size`: bytes of a picture."""
        self._sent.append((now, size))
        self._sent_bytes += size
        while self._sent[0][0] < now - RATE_SECONDS:
            self._sent_bytes -= self._sent.popleft()[1]

    @property
    def rate(self) -> float:
        """Bits/s that were sent lately; 0 where too little was sent to tell."""
        if not self._sent or (seconds := self._sent[-1][0] - self._began_at) < RATE_SECONDS / 2:
            return 0.0
        return self._sent_bytes * 8 / min(RATE_SECONDS, seconds)

    def estimated(self, bitrate: int, now: float) -> None:
        """By the viewer (REMB), in bits/s."""
        fell = self.estimate is None or bitrate < self.estimate * _FALL
        self.estimate = bitrate
        if fell and bitrate < self.rate * _FAR_BELOW and self._settled(now):
            self._falls.add(int(now))

    def reported(self, lost: float, now: float) -> None:
        """Share of the packets since the last report that never came, 0 to 1."""
        self.loss = lost
        if lost > _LOST_AT_ALL:
            self._clogged(now)
        if self._settled(now):
            at_first = self._trying and lost > _LOST_AT_FIRST
            self._bad_reports = self._bad_reports + 1 + at_first if lost > _MANY_LOST else 0

    def _clogged(self, now: float) -> None:
        """Spreading packets over time has to show first whether it helps."""
        if now > self.clogged_until and not self._trying:
            self._settled_at = max(self._settled_at, now + _SETTLING_SECONDS / 2)
        self.clogged_until = now + _CLOGGED_SECONDS

    def pictures_lost(self, now: float) -> None:
        """The viewer needs a keyframe. Nothing is wrong with a link that loses no packet."""
        if self._settled(now) and self.loss > _LOST_AT_ALL:
            self._lost.add(int(now))

    def verdict(self, now: float) -> str:
        """Why the link carries too little; empty where it does not."""
        if self._bad_reports > 1:
            return f"{self.loss:.0%} of the packets are lost"
        if len(_late(self._falls, now)) >= _FALLS:
            return f"its link carries {(self.estimate or 0) / 1000:.0f} kb/s of {self.rate / 1000:.0f}"
        if len(_late(self._lost, now)) >= _LOST_SECONDS:
            return "pictures are lost again and again"
        return ""

    def _settled(self, now: float) -> bool:
        return now >= self._settled_at


def _late(seconds: set[int], now: float) -> set[int]:
    """Those of `seconds` that are not long ago; the others are forgotten."""
    seconds.difference_update([one for one in seconds if one < now - _MEMORY_SECONDS])
    return seconds


class Quality:
    """The level of one viewer. `evidence`: to be told what is sent, and what the viewer reports."""

    def __init__(self, now: float) -> None:
        self.level = Level.FULL
        self.evidence = Evidence(now)
        self.reason = ""
        """Of the last step down."""
        self.steps_down = 0
        self._changed_at = now
        self._pause = FIRST_PAUSE

    def pace(self, now: float, source_rate: float) -> float:
        """Bits/s, at most, at which packets are to leave: spread over time where packets get lost, since links lose
        what comes at once. `source_rate`: bits/s of the source, 0 where it is not known."""
        rate = source_rate or self.evidence.rate
        if now > self.evidence.clogged_until or not rate:
            return FASTEST
        return max(_SLOWEST, _PACE * rate)

    def judge(self, now: float, *, small: bool) -> bool:
        """Whether the level changes, down or up. `small`: whether smaller pictures are less than the full ones."""
        if self.judge_down(now, small=small):
            return True
        if self.level is Level.FULL or now - self._changed_at < self._pause:
            return False
        self._change(Level.SMALL if self.level is Level.KEYFRAMES and small else Level.FULL, now)
        self.evidence.begin(now, now, trying=True)
        return True

    def judge_down(self, now: float, *, small: bool = True) -> bool:
        """Whether the level changes to less."""
        if self.level is Level.KEYFRAMES or not (why := self.evidence.verdict(now)):
            return False
        soon = self.steps_down > 0 and now - self._changed_at < PROVEN_SECONDS
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if soon else FIRST_PAUSE
        self.reason = why
        self.steps_down += 1
        self._change(Level.SMALL if self.level is Level.FULL and small else Level.KEYFRAMES, now)
        self.evidence.begin(now, now + _SETTLING_SECONDS)
        return True

    def _change(self, level: Level, now: float) -> None:
        self.level, self._changed_at = level, now
