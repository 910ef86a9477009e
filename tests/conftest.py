"""For all tests."""

from __future__ import annotations

import asyncio.constants
import logging
import os

from hypothesis import settings

if "CI" not in os.environ:  # there Hypothesis has a profile of its own, without deadlines, too
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")

asyncio.constants.DEBUG_STACK_DEPTH = 1  # type: ignore[misc]
"""The loop's debug mode keeps that many frames of whoever made a handle, a task or a coroutine. Its ten took a third of
the time of all tests; who looks for the place that made a lost task puts in more."""

logging.getLogger("asyncio").addFilter(lambda record: record.msg != "Executing %s took %.3f seconds")
"""The debug mode says so of every step of more than 0.1 s: where the machine stands still for a moment, of any. It is
nothing of what a test looks for in the log."""
