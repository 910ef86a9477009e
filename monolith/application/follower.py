"""One decoder session of a followed source, over successive segments of one run.

Tasks: one lends slots, one reads what the decoder says and starts the models on each frame, and one for each open
segment writes its events and closes it. At most two segments are open: the one whose frames come, and the one before
it, whose last results do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from monolith.application.attempt import first_cause, in_own_task
from monolith.application.errors import EnvironmentFailure, RetryableFailure, SourceFailure
from monolith.application.followed_run import FollowedRun, OpenSegment, SegmentEnd
from monolith.application.judging import MAX_HELD_LIVE, MAX_LENT, FrameJudge, SlotLoans
from monolith.application.ports import FollowMessage, FollowSession
from monolith.ingest.messages import (
    Connected,
    FollowSource,
    FrameReady,
    FramesLost,
    PackSynced,
    SegmentCut,
    SegmentDone,
)

_ENDED_BY_ITSELF: Final = "the source has ended"
_UNDECODED: Final = "the picture could not be decoded"


class Follower:
    """`silence`: seconds without any message after which a connection counts as broken; None: that is the decoder's
    business (a source that is not live)."""

    def __init__(self, run: FollowedRun, *, silence: float | None) -> None:
        self._run = run
        self._silence = silence
        self._resources = run.segments.resources
        self._judge = FrameJudge(self._resources.inference, run.request.models, run.video_id)
        self._loans = self._new_loans()
        self._newest: FrameReady | None = None
        self._current: OpenSegment | None = None
        self._previous: OpenSegment | None = None
        self.came_up = False
        """Whether the connection has given a picture."""
        self.waited = 0.0
        """Seconds that were waited in vain for a message, where that ended the session."""

    async def follow(
        self, request: FollowSource, segment: OpenSegment, *, patience: float | None = None
    ) -> SegmentDone:
        """Run the session to its end; when this returns all segments are closed and completed, but for the last one of
        a source that is not live and has not come to its end. `patience`: seconds until the first message.

        Raises SourceFailure, RetryableFailure, EnvironmentFailure, SupersededError, EventStoreErrors: then up to two
        segments are open.
        """
        session: FollowSession | None = None
        try:
            async with self._resources.decoders.follow(request) as session:
                return await in_own_task(self._work_through(session, segment, patience))
        except BaseExceptionGroup as group:
            cause = first_cause(group)
            if isinstance(cause, SourceFailure | RetryableFailure | EnvironmentFailure):
                await self._save(str(cause))
            raise cause from group
        finally:
            self._loans.end(session)

    def _new_loans(self) -> SlotLoans:
        if self._run.live:
            return SlotLoans(self._resources.live_slots, self._run.video_id, MAX_HELD_LIVE, until_judged=True)
        return SlotLoans(self._resources.slots, self._run.video_id, MAX_LENT)

    async def _work_through(
        self, session: FollowSession, segment: OpenSegment, patience: float | None
    ) -> SegmentDone:
        async with asyncio.TaskGroup() as tasks:
            lender = tasks.create_task(self._loans.lend_to(session), name=f"lender of {self._run.video_id}")
            self._enter(segment, tasks)
            done = await self._read(session, tasks, patience)
            lender.cancel()
        return done

    def _enter(self, segment: OpenSegment, tasks: asyncio.TaskGroup) -> None:
        previous, self._previous, self._current = self._current, self._current, segment
        name = f"writer of {self._run.video_id}/{segment.plan.segment}"
        tasks.create_task(self._record(segment, previous), name=name)

    async def _record(self, segment: OpenSegment, previous: OpenSegment | None) -> None:
        """Write a segment's events; segments are closed in their order."""
        await segment.recorder.write()
        if previous is not None:
            await previous.completed.wait()
        if segment.end is not None:
            await self._run.complete(segment)

    async def _read(
        self, session: FollowSession, tasks: asyncio.TaskGroup, patience: float | None
    ) -> SegmentDone:
        messages, limit = aiter(session), patience
        while (message := await self._next(messages, limit)) is not None:
            limit = self._silence
            assert self._current is not None
            recorder = self._current.recorder
            match message:
                case FrameReady():
                    self._loans.filled(message.slot)
                    self._resources.watcher(self._run.video_id, message)
                    await recorder.frame(message)
                    self._newest = message
                    tasks.create_task(self._judge.judge(message, recorder, self._loans))
                case PackSynced():
                    recorder.synced(message.frame_number)
                case FramesLost():
                    recorder.lost(message.frame_numbers, message.reason)
                case Connected():
                    await self._connected(message, self._current)
                case SegmentCut():
                    await self._next_segment(session, tasks, message, self._current)
                case SegmentDone():
                    self._loans.give_back(message.unused_slots)
                    await self._ended(message, self._current)
                    return message
        raise RetryableFailure("the decoder ended without saying so")

    async def _next(
        self, messages: AsyncIterator[FollowMessage], limit: float | None
    ) -> FollowMessage | None:
        """The next message, None after the last. Raises RetryableFailure when none comes for `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                return await anext(messages, None)
        except TimeoutError as error:
            self.waited = limit or 0.0
            raise RetryableFailure(f"no picture came for {limit:.0f} s") from error

    async def _connected(self, message: Connected, segment: OpenSegment) -> None:
        self.came_up = True
        if self._run.live:
            await self._run.connected(segment, message)

    async def _next_segment(
        self, session: FollowSession, tasks: asyncio.TaskGroup, cut: SegmentCut, segment: OpenSegment
    ) -> None:
        """All frames of `segment` are in events before the next one is planned: see `followed_run`."""
        await segment.recorder.store()
        segment.seal(SegmentEnd(cut.last_frame))
        if self._previous is not None:
            await self._previous.completed.wait()
        first_frame, start = cut.last_frame + 1, self._start_after(cut.last_frame)
        following = await self._run.begin(segment.plan.segment + 1, first_frame, start)
        self._enter(following, tasks)
        await session.start_segment(self._run.start_of(following))

    def _start_after(self, last_frame: int) -> float | None:
        """Seconds of media after frame `last_frame`, as far as the newest sampled frame tells."""
        if self._newest is None:
            return None
        rate = self._run.probe.source.frame_rate
        newest = self._newest.frame
        ahead = (last_frame + 1 - newest.frame_number) / rate if rate else 0.0
        return newest.timestamp + ahead

    async def _ended(self, done: SegmentDone, segment: OpenSegment) -> None:
        """What has begun is judged and closed, but a source that is not live and broke off goes on in its segment."""
        segment.recorder.lost(done.missing, "; ".join([_UNDECODED, *done.warnings]))
        last = done.last_frame if (done.last_frame or 0) >= segment.plan.first_frame else None
        if self._run.live:
            reason = _ENDED_BY_ITSELF if done.end_of_source else done.broken or "the connection ended"
            await self._run.disconnected(reason, last_frame=done.last_frame)
        if done.end_of_source or (self._run.live and self.came_up):
            segment.seal(SegmentEnd(last, done.end_of_source))
        else:
            segment.recorder.end()

    async def _save(self, reason: str) -> None:
        """After a failure: what can be recorded is. Frames of a live source that were not stored do not come again."""
        why_unsynced = f"lost with the connection: {reason}" if self._run.live else None
        for segment in (self._previous, self._current):
            if segment is not None and not segment.completed.is_set():
                await segment.recorder.save(why_unsynced)
