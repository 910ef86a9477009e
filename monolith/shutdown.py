"""How the program ends: in order when it is asked to, faster when it is asked again, and in the end by force.

Rules:
- Asked once (SIGINT, SIGTERM): no new work is taken in, what is in hand is left where a restart finds it.
- Asked again: nobody is waited for any more. Asked a third time: the process ends at once.
- Whatever hangs, the process ends at its deadline. That loses nothing that was acknowledged: a kill does not either,
  and child processes end with their parent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

from monolith.logs import flush_logs

HURRIED_SECONDS: Final = 3.0
"""From the second request to the end by force."""
FORCED: Final = 1
"""Exit code of an end by force."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

logger = logging.getLogger(__name__)


class Ending:
    """The end of one program. `asked` is set in the event loop; `deadline`: seconds from the first request, or
    from `begin`, to the end by force."""

    def __init__(self, deadline: float, *, force: Callable[[], None] | None = None) -> None:
        self.deadline = deadline
        self.asked = asyncio.Event()
        self.on_hurried: Callable[[], None] = lambda: None
        """Called in the event loop when the program is asked again."""
        self._force = force or _force
        self._times = 0
        self._timer: threading.Timer | None = None

    def take_signals(self) -> None:
        """Until the event loop is closed: a signal that comes while the program ends is one, too. A closed terminal
        ends nothing; keys and certificates are read again when their files change, without a signal."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.ask, number.name)
        loop.add_signal_handler(signal.SIGHUP, logger.info, "SIGHUP: nothing is to be done, serving goes on")

    def ask(self, why: str) -> None:
        """To be called in the event loop."""
        self._times += 1
        match self._times:
            case 1:
                logger.info(
                    "%s: ending, within %g s; what is unfinished goes on at the next start",
                    why,
                    self.deadline,
                )
                self.asked.set()
                self.begin()
            case 2:
                logger.warning("%s again: ending without waiting for anyone", why)
                self.on_hurried()
                self._start_timer(min(self.deadline, HURRIED_SECONDS))
            case _:
                self._force()

    def begin(self) -> None:
        """From now on the deadline runs. Idempotent."""
        if self._timer is None:
            self._start_timer(self.deadline)

    def done(self) -> None:
        """Everything has ended in order: there is nothing left to force. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self, seconds: float) -> None:
        self.done()
        self._timer = threading.Timer(seconds, self._force)
        self._timer.name, self._timer.daemon = "end by force", True
        self._timer.start()


def _force() -> None:
    """Runs in a thread: the event loop may be what hangs."""
    logger.error(
        "the program did not end in time and is ended by force; nothing that was acknowledged is lost, and what is"
        " unfinished goes on at the next start (VIDEO_ANALYSIS_SHUTDOWN_DEADLINE)"
    )
    flush_logs()
    os._exit(FORCED)
