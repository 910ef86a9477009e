"""What can go wrong in inference.

InferenceError
├── QueueFullError            the model's queue, or the queue of frames to retry, is full: try later, or drop
├── AnswerTimeoutError        no answer within the deadline
├── FrameKillsWorkerError     the frame ended its worker twice, the second time alone: the frame's fault
├── WorkerDiedError           the worker ended before it answered: no frame's fault is proven
├── WorkerStartError          no worker came up; the message carries a worker's last words
└── ServiceClosedError        the service has been closed, or has failed
"""

from __future__ import annotations


class InferenceError(Exception):
    """The root of this package's errors."""


class QueueFullError(InferenceError):
    pass


class AnswerTimeoutError(InferenceError):
    pass


class FrameKillsWorkerError(InferenceError):
    pass


class WorkerDiedError(InferenceError):
    pass


class WorkerStartError(InferenceError):
    pass


class ServiceClosedError(InferenceError):
    pass
