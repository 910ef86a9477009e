"""How many encoder processes all videos have, and what those counted that have ended."""

from __future__ import annotations

from collections import Counter
from typing import Final

from monolith.live.playback.shared_encoder import SharedEncoder

COUNTED: Final = ("late", "damaged")


class NoEncoderError(Exception):
    """As many encoders are at work as may be; the text is for the log."""


class EncoderPlaces:
    """`most`: encoders at the same time."""

    def __init__(self, most: int) -> None:
        self.started = 0
        self._most = most
        self._at_work: set[SharedEncoder] = set()
        self._of_gone: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._at_work)

    @property
    def full(self) -> bool:
        return len(self._at_work) >= self._most

    def enter(self, encoder: SharedEncoder) -> None:
        """Start it. Raises NoEncoderError."""
        if self.full:
            raise NoEncoderError(
                f"{self._most} processes encode live video already (VIDEO_ANALYSIS_MAX_LIVE_ENCODERS)"
            )
        self._at_work.add(encoder)
        self.started += 1
        encoder.start()

    def leave(self, encoder: SharedEncoder) -> None:
        """It has ended."""
        self._at_work.discard(encoder)
        self._of_gone.update({what: getattr(encoder, what) for what in COUNTED})

    def sums(self, what: str) -> float:
        """`COUNTED`, since the program's start."""
        return self._of_gone[what] + sum(int(getattr(one, what)) for one in self._at_work)
