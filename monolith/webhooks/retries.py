"""When a delivery that failed is tried again, and when it is given up."""

from __future__ import annotations

import random
from typing import Final

import msgspec

_LONGEST_WISH: Final = 3600.0


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. An event is tried until it is `give_up_after` old, however long the program was away at least so long,
    and `attempts` times at least. A replay is given up sooner: somebody waits for it."""

    give_up_after: float
    replay_give_up_after: float = 600.0
    attempts: int = 3
    first_pause: float = 2.0
    longest_pause: float = 300.0

    def pause(self, attempts: int, wanted: float) -> float:
        """After so many failed attempts: twice as long each time, less up to a half by chance, so that many do not
        come at once. `wanted`: what the receiver asks for, up to an hour."""
        backoff = min(self.longest_pause, self.first_pause * 2.0 ** min(attempts - 1, 30))
        return max(min(wanted, _LONGEST_WISH), backoff * random.uniform(0.5, 1.0))  # noqa: S311

    def given_up(self, attempts: int, seconds: float, *, replay: bool) -> bool:
        """`seconds`: since the event was due."""
        limit = min(self.give_up_after, self.replay_give_up_after) if replay else self.give_up_after
        return attempts >= self.attempts and seconds >= limit
