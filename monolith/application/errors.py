"""What can go wrong outside the domain, as the application sees it.

ApplicationError
├── SourceFailure        the source is at fault; trying again cannot help
├── RetryableFailure     a process, disk or network failed; another attempt may succeed
├── EnvironmentFailure   the machine is at fault (disk full): the work waits until that is mended
└── FrameRefusedError    no model process survives this frame, or the model cannot judge it
"""

from __future__ import annotations


class ApplicationError(Exception):
    """Root of the application's errors; the text is for users."""


class SourceFailure(ApplicationError):  # noqa: N818 (a failure that is recorded as an event, not a bug)
    """The source cannot be analysed: not a video, not found, forbidden, too large."""


class RetryableFailure(ApplicationError):  # noqa: N818
    """Something around the work failed; the work itself may be tried again."""


class EnvironmentFailure(ApplicationError):  # noqa: N818
    """Nothing is wrong with the work: it can go on as soon as the machine can take it."""


class FrameRefusedError(ApplicationError):
    """This frame cannot be judged; others can."""
