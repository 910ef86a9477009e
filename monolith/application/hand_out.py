"""What one of several copies hands out: each open segment once, and again after a failed attempt or a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from monolith.application.ports import Clock
from monolith.domain.ids import id_of
from monolith.domain.jobs import SegmentJob
from monolith.domain.video import Video

_SERVED_REMEMBERED: Final = 10_000


class SegmentMessage(msgspec.Struct, frozen=True):
    """A segment that is to be done. Attempts up to `after` (0: none) are over: they failed, or were given up."""

    video_id: str
    run_id: str
    segment: int
    after: int = 0

    @property
    def job(self) -> SegmentJob:
        return SegmentJob(self.video_id, self.run_id, self.segment)

    @property
    def message_id(self) -> UUID:
        """The same for the same segment after the same attempt."""
        return id_of("segment", self.video_id, self.run_id, self.segment, self.after)


class HandedOut(NamedTuple):
    """A message that was put into the queue, at `at` (Unix seconds)."""

    message: SegmentMessage
    at: float


class HandOut:
    """What is wanted done, and what of it is in the queue or being done. Videos take turns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wanted: dict[str, dict[SegmentJob, SegmentMessage]] = {}
        self._out: dict[SegmentJob, HandedOut] = {}
        self._served: dict[str, int] = {}
        self._turn = 0

    def offer(self, video: Video, jobs: Sequence[SegmentJob]) -> None:
        """These are the video's segments that can be done now; of others nothing is known any more."""
        before = self._wanted.pop(video.video_id, {})
        wanted = {job: _message(video, job, before.get(job)) for job in jobs}
        for job in before.keys() - wanted.keys():
            self._out.pop(job, None)
        if wanted:
            self._wanted[video.video_id] = wanted
        else:
            self._served.pop(video.video_id, None)

    def next(self) -> SegmentMessage | None:
        """What is to be put into the queue now: of the video whose turn it is. None: all is there."""
        ready = (
            (self._served.get(video_id, 0), video_id) for video_id in self._wanted if self._left(video_id)
        )
        _, video_id = min(ready, default=(0, ""))
        return self._left(video_id)

    def put(self, message: SegmentMessage) -> None:
        """It is in the queue now, unless nobody wants it any more."""
        if message.job not in self._wanted.get(message.video_id, {}):
            return
        self._out[message.job] = HandedOut(message, self._clock())
        self._turn += 1
        self._served.pop(message.video_id, None)
        self._served[message.video_id] = self._turn
        if len(self._served) > _SERVED_REMEMBERED:
            del self._served[next(iter(self._served))]

    def out(self) -> list[HandedOut]:
        """What was put into the queue and is not done yet, as far as is known."""
        return list(self._out.values())

    def seen(self, message: SegmentMessage) -> None:
        """Somebody is doing it now: it counts as put in at this moment, which spares looking again at once."""
        out = self._out.get(message.job)
        if out is not None and out.message == message:
            self._out[message.job] = HandedOut(message, self._clock())

    def lost(self, message: SegmentMessage, attempt: int) -> None:
        """It is not in the queue any more, and nobody does it; `attempt` was the last one."""
        out = self._out.get(message.job)
        if out is not None and out.message == message:
            del self._out[message.job]
            wanted = self._wanted[message.video_id]
            after = max(attempt, wanted[message.job].after)
            wanted[message.job] = msgspec.structs.replace(message, after=after)

    def forget(self) -> None:
        """What is in the queue is not known: another copy handed out until now."""
        self._out.clear()

    def _left(self, video_id: str) -> SegmentMessage | None:
        for job, message in self._wanted.get(video_id, {}).items():
            out = self._out.get(job)
            if out is None or out.message != message:
                return message
        return None


def _message(video: Video, job: SegmentJob, before: SegmentMessage | None) -> SegmentMessage:
    failures = video.runs[job.run_id].failures.get(job.segment)
    after = max(failures.attempt if failures else 0, before.after if before else 0)
    return SegmentMessage(job.video_id, job.run_id, job.segment, after)
