"""The segments of one run of a followed source: begun one after another, taken up again, finished, completed.

When a segment is planned, all frames of the one before are in events. So after a crash only the newest segment may lack
frames that were there; of those before it at most results are missing.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from monolith.application.recorder import SegmentRecorder
from monolith.application.segment_log import SegmentLog
from monolith.application.segments import Segments
from monolith.domain.commands import EndSource, PlanSegment, RecordConnection, RecordDisconnection
from monolith.domain.errors import SupersededError
from monolith.domain.events import VideoProbed
from monolith.domain.jobs import SegmentJob
from monolith.domain.run import Run
from monolith.domain.segment import SegmentPlan, SourcePosition
from monolith.domain.video import Video
from monolith.ingest.messages import Connected, StartSegment

_FALLBACK_RATE: Final = 25.0
_LOOKED_BACK: Final = 3
"""Segments, of which some may hold no sampled picture."""


class SegmentEnd(msgspec.Struct, frozen=True):
    """Where a segment ends. `last_frame`: its greatest frame number, sampled or not (None: it has none)."""

    last_frame: int | None
    end_of_source: bool = False


class NewestFrame(msgspec.Struct, frozen=True):
    """What the next connection is to know of the last frame that was stored."""

    timestamp: float
    position: SourcePosition | None


class OpenSegment:
    """A claimed segment whose frames come, or whose last results do."""

    def __init__(self, log: SegmentLog, plan: SegmentPlan, pack: str, recorder: SegmentRecorder) -> None:
        self.log = log
        self.plan = plan
        self.pack = pack
        self.recorder = recorder
        self.end: SegmentEnd | None = None
        """Set when no more frames come; None afterwards, too, where the segment is not done with."""
        self.completed = asyncio.Event()

    def seal(self, end: SegmentEnd) -> None:
        """No more frames come, and the segment can be closed when those that are there are judged."""
        self.end = end
        self.recorder.end()


class FollowedRun:
    """One run of a followed source. What it is about is in its events: nothing is kept here that a restart would miss.

    Methods raise SupersededError (also when the run has ended), SourceFailure, RetryableFailure, EnvironmentFailure,
    EventStoreErrors.
    """

    def __init__(self, segments: Segments, video: Video, run: Run) -> None:
        assert video.probe is not None
        self.segments = segments
        self.video_id = video.video_id
        self.request = run.request
        self.probe: VideoProbed = video.probe
        self.live = video.live
        self.pushed = video.pushed
        self.log: SegmentLog | None = None
        """Of the segment that was worked on last: where a failure is counted."""

    async def state(self) -> tuple[Video, Run]:
        """The video and the run now. Raises SupersededError when the run has ended."""
        video = await self.segments.streams.load(self.video_id)
        run = video.runs[self.request.run_id]
        if not run.active:
            raise SupersededError("the run has ended")
        return video, run

    async def next_place(self) -> tuple[int, int]:
        """(number of the next segment, number of its first frame): the ones after the greatest known. Of segments that
        are not completed only the beginning counts. Both from one state: what another process has planned since then
        is seen by `begin`."""
        video, run = await self.state()
        planned = video.segments[-1].first_frame if video.segments else 1
        return len(video.segments), max(run.greatest_frame + 1, planned)

    async def begin(self, number: int, first_frame: int, start: float | None) -> OpenSegment:
        """Plan segment `number` and claim it. `start`: seconds of media. Raises SupersededError (also where one of this
        number is there), EnvironmentFailure."""
        plan = SegmentPlan(segment=number, first_frame=first_frame, last_frame=None, start=start)
        command = PlanSegment(at=self.segments.clock(), plan=plan)
        outcome = await self.segments.streams.execute(self.video_id, command)
        if not outcome.events:
            raise SupersededError(f"segment {plan.segment} cannot be planned any more")
        return await self._claimed(await self._log(plan), plan)

    async def take_up(self, *, only_empty: bool = False) -> OpenSegment | None:
        """The newest segment, claimed anew, if it was left open; what was stored is judged first.

        `only_empty`: only if it holds nothing yet (a live source is never continued in the midst of a segment).
        """
        video, run = await self.state()
        if not video.segments or video.segments[-1].segment in run.completed:
            return None
        plan = video.segments[-1]
        log = await self._log(plan)
        if log.closed is not None:
            await self.segments.completed(log)
            return None
        if only_empty and log.settled():
            return None
        segment = await self._claimed(log, plan)
        await self.segments.judge_stored(log, self.request, segment.pack)
        return segment

    def again(self, segment: OpenSegment) -> OpenSegment:
        """A segment that has got no frame yet, for another connection."""
        return OpenSegment(segment.log, segment.plan, segment.pack, self._recorder(segment.log, segment.pack))

    async def newest_before(self, segment: OpenSegment) -> NewestFrame | None:
        """The newest stored frame of the segments before `segment`, as far as the last few tell."""
        video, _ = await self.state()
        number = segment.plan.segment
        for plan in reversed(video.segments[max(0, number - _LOOKED_BACK) : number]):
            if plan.segment not in video.expired:
                log = await self.segments.open(SegmentJob(self.video_id, self.request.run_id, plan.segment))
                if log.greatest_timestamp is not None:
                    return NewestFrame(log.greatest_timestamp, log.position)
        return None

    def after(self, newest: NewestFrame | None) -> float:
        """Seconds of media where a connection may begin, however the machine's clock was set."""
        if newest is None:
            return 0.0
        return newest.timestamp + 1 / (self.probe.source.frame_rate or _FALLBACK_RATE)

    def start_of(self, segment: OpenSegment) -> StartSegment:
        """What the decoder has to know of a segment."""
        path = self.segments.storage.pack_path(self.video_id, segment.pack)
        return StartSegment(segment.plan.segment, str(path), segment.log.not_wanted())

    async def finish_earlier(self) -> None:
        """Finish all open segments but the newest planned one."""
        video, run = await self.state()
        for plan in video.open_segments(run):
            if plan.segment + 1 < len(video.segments):
                await self._finish(plan, video.segments[plan.segment + 1].first_frame - 1)

    async def finish_all(self) -> None:
        """Finish all open segments with the frames that are stored: of a live source no more will come."""
        await self.finish_earlier()
        video, run = await self.state()
        for plan in video.open_segments(run):
            await self._finish(plan, None)

    async def _finish(self, plan: SegmentPlan, last_frame: int | None) -> None:
        """`last_frame`: None where only the frames that are stored or given up tell it."""
        log = await self._log(plan)
        if log.closed is None:
            pack = await self.segments.claim(log)
            await self.segments.judge_stored(log, self.request, pack)
            known = log.greatest_frame if last_frame is None else last_frame
            await log.close(self.request.models, last_frame=known, end_of_source=False)
        await self.segments.completed(log)

    async def complete(self, segment: OpenSegment) -> None:
        """Close a sealed segment whose frames are all judged."""
        assert segment.end is not None
        await segment.log.close(
            self.request.models,
            last_frame=segment.end.last_frame,
            end_of_source=segment.end.end_of_source,
        )
        await self.segments.completed(segment.log)
        segment.completed.set()

    async def connected(self, segment: OpenSegment, message: Connected) -> None:
        """Record that the source gives pictures."""
        video, _ = await self.state()
        command = RecordConnection(
            at=self.segments.clock(),
            connection=video.connections + 1,
            segment=segment.plan.segment,
            first_frame=message.first_frame,
            timestamp=message.timestamp,
            wall_time=message.wall_time,
        )
        await self.segments.streams.execute(self.video_id, command)

    async def disconnected(self, reason: str, *, last_frame: int | None = None) -> None:
        """Record that the connection, if there is one, gives no more. `last_frame`: None: the greatest one known."""
        video, _ = await self.state()
        if not video.connected:
            return
        if last_frame is None and video.segments:
            last_frame = await self._last_frame_known(video, video.segments[-1])
        command = RecordDisconnection(
            at=self.segments.clock(), connection=video.connections, last_frame=last_frame, reason=reason
        )
        await self.segments.streams.execute(self.video_id, command)

    async def _last_frame_known(self, video: Video, newest: SegmentPlan) -> int | None:
        """Of the newest connection: where its last segment has no frame, the one before it ended with it."""
        known = (await self._log(newest)).greatest_frame
        connection = video.newest_connection
        if known is None and connection is not None and connection.first_frame < newest.first_frame:
            return newest.first_frame - 1
        return known

    async def end(self, reason: str) -> None:
        """The source has ended; all that is open is finished first."""
        await self.disconnected(reason)
        await self.finish_all()
        _, next_frame = await self.next_place()
        command = EndSource(at=self.segments.clock(), frames=next_frame - 1, reason=reason)
        await self.segments.streams.execute(self.video_id, command)

    async def _log(self, plan: SegmentPlan) -> SegmentLog:
        self.log = await self.segments.open(SegmentJob(self.video_id, self.request.run_id, plan.segment))
        return self.log

    async def _claimed(self, log: SegmentLog, plan: SegmentPlan) -> OpenSegment:
        pack = await self.segments.claim(log)
        return OpenSegment(log, plan, pack, self._recorder(log, pack))

    def _recorder(self, log: SegmentLog, pack: str) -> SegmentRecorder:
        identities = self.segments.resources.inference.identities
        return SegmentRecorder(log, self.request, pack, identities, at_once=self.live)
