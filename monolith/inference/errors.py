"""What can go wrong in inference.

InferenceError
├── QueueFullError            the model's queue, or the queue of frames to retry, is full: try later, or drop
├── FrameKillsWorkerError     the frame ended its workers, again and again, at last alone: the frame's fault
├── WorkerDiedError           the worker ended before it answered: no frame's fault is proven (the service retries)
└── InferenceUnavailableError nothing is wrong with the frame: there is nobody to judge it
    ├── AnswerTimeoutError    no answer within the deadline
    ├── NoWorkerError         the frame's worker died, and no other came free for the retry
    ├── WorkerStartError      no worker came up; the message carries a worker's last words
    └── ServiceClosedError    the service has been closed, or has failed
"""

from __future__ import annotations


class InferenceError(Exception):
    """The root of this package's errors."""


class QueueFullError(InferenceError):
    pass


class FrameKillsWorkerError(InferenceError):
    pass


class WorkerDiedError(InferenceError):
    """`from_outside`: somebody else killed it (a person, the kernel for want of memory), it did not crash or hang."""

    def __init__(self, reason: str, *, from_outside: bool = False) -> None:
        super().__init__(reason)
        self.from_outside = from_outside


class InferenceUnavailableError(InferenceError):
    """Of the service, not of the frame: worth another try when workers are ready."""


class AnswerTimeoutError(InferenceUnavailableError):
    pass


class NoWorkerError(InferenceUnavailableError):
    pass


class WorkerStartError(InferenceUnavailableError):
    pass


class ServiceClosedError(InferenceUnavailableError):
    pass
