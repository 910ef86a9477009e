"""One pass of a set of models over a video."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from monolith.domain.events import RunRequested, SegmentCompleted, SegmentFailed
from monolith.domain.growing import Numbers

RunStatus: TypeAlias = Literal["active", "completed", "failed", "cancelled"]


class Failures(msgspec.Struct, frozen=True):
    """How often attempts at a segment failed in a row without progress, and what was settled by the last of them,
    which was attempt `attempt`."""

    count: int = 0
    settled: int = -1
    attempt: int = 0

    def after(self, settled: int, attempt: int = 0) -> Failures:
        """One more, or the first after progress."""
        count = 1 if settled > self.settled else self.count + 1
        return Failures(count, settled, max(attempt, self.attempt))


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its events tell. `frames`, `dropped` and `greatest_frame` (0: none) are of its completed segments."""

    request: RunRequested
    status: RunStatus = "active"
    completed: Numbers = Numbers()
    """Segments."""
    frames: int = 0
    dropped: int = 0
    greatest_frame: int = 0
    failures: dict[int, Failures] = {}
    """Of segments that are not completed."""

    @property
    def active(self) -> bool:
        return self.status == "active"

    @property
    def coverage(self) -> float:
        """Frames with results / frames sampled, 0–1; 1 for a run that sampled nothing."""
        sampled = self.frames + self.dropped
        return self.frames / sampled if sampled else 1.0

    def with_completed(self, done: SegmentCompleted) -> Run:
        failures = self.failures
        if done.segment in failures:
            failures = {segment: count for segment, count in failures.items() if segment != done.segment}
        return msgspec.structs.replace(
            self,
            completed=self.completed.plus([done.segment]),
            frames=self.frames + done.frames,
            dropped=self.dropped + done.dropped,
            greatest_frame=max(self.greatest_frame, done.last_frame or 0),
            failures=failures,
        )

    def with_failure(self, failed: SegmentFailed) -> Run:
        failures = self.failures.get(failed.segment, Failures()).after(failed.settled, failed.attempt)
        return msgspec.structs.replace(self, failures={**self.failures, failed.segment: failures})

    def failures_with(self, segment: int, settled: int) -> Failures:
        """The segment's failures after one more."""
        return self.failures.get(segment, Failures()).after(settled)

    def ended(self, status: RunStatus) -> Run:
        return msgspec.structs.replace(self, status=status)
