"""What the domain refuses.

DomainError
├── InvalidRequestError   the request is wrong; the message says what would be right
├── VideoNotFoundError    no such video
├── RunNotFoundError      the video has no such run
├── FrameNotSampledError  the frame was not sampled; names its sampled neighbours
├── FrameExpiredError     retention has removed the frame
├── WebhookNotFoundError  no such webhook
├── NotPossibleError      right request, wrong moment (cancel a completed run)
└── SupersededError       another attempt has taken the segment over
"""

from __future__ import annotations

from datetime import UTC, datetime


class DomainError(Exception):
    """Root of the domain's errors; the text is for users."""


class InvalidRequestError(DomainError):
    """The request is wrong. `field`: the JSON name of the wrong part, if it is one part."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class VideoNotFoundError(DomainError):
    def __init__(self, video_id: str) -> None:
        super().__init__(f"there is no video {video_id}")
        self.video_id = video_id


class RunNotFoundError(DomainError):
    def __init__(self, video_id: str, run_id: str) -> None:
        super().__init__(
            f"video {video_id} has no run {run_id}; GET /analysis/{video_id} lists its runs, and without run= the"
            " newest completed one of each model answers"
        )
        self.video_id = video_id
        self.run_id = run_id


class FrameNotSampledError(DomainError):
    """`before`, `after`: the nearest frame numbers that were sampled, None where there is none."""

    def __init__(self, frame_number: int, before: int | None, after: int | None) -> None:
        near = " and ".join(str(n) for n in (before, after) if n is not None)
        hint = f"the nearest sampled frames are {near}" if near else "the video has no stored frames yet"
        super().__init__(f"frame {frame_number} was not sampled; {hint}")
        self.frame_number = frame_number
        self.before = before
        self.after = after


class FrameExpiredError(DomainError):
    """`expired_at`: Unix seconds."""

    def __init__(self, frame_number: int, segment: int, expired_at: float) -> None:
        when = datetime.fromtimestamp(expired_at, UTC).isoformat(timespec="seconds")
        super().__init__(
            f"frame {frame_number} is gone: segment {segment} of the video expired at {when}; "
            "what it added to the video's sums is kept"
        )
        self.frame_number = frame_number
        self.expired_at = expired_at


class WebhookNotFoundError(DomainError):
    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"there is no webhook {webhook_id}; GET /webhooks lists those there are")
        self.webhook_id = webhook_id


class NotPossibleError(DomainError):
    """The request makes no sense in the state that the video is in."""


class SupersededError(DomainError):
    """A newer attempt holds the segment; this one must stop."""
