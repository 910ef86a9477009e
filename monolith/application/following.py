"""Sources that are followed, from the probe to their end.

Rules:
- One run's segments follow one another; what an earlier process left open is done first.
- A source that is not live is taken up again at the first frame of its open segment; its failures are counted as those
  of a file's segment.
- A live source that breaks off is connected to again, after growing pauses, as a new connection in a new segment, until
  no picture has come for `live_silence` seconds. Then it has ended: its run completes if anything was analysed.
- One that is pushed is not connected to: its publisher is waited for, as long.
- A live source that cannot be had for good (forbidden, not found, no video) has ended at once if it never came up.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from monolith.application.errors import EnvironmentFailure, RetryableFailure, SourceFailure
from monolith.application.followed_run import FollowedRun, OpenSegment
from monolith.application.follower import Follower
from monolith.application.ports import Publishers
from monolith.application.segments import Segments
from monolith.application.source_access import SourceAccesses
from monolith.domain.errors import SupersededError
from monolith.domain.jobs import FollowJob
from monolith.domain.video import Video
from monolith.ingest.messages import FollowSource

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_LONGEST_PUSHED_PAUSE: Final = 2.0
"""Its publisher has connected already: this is for what goes wrong behind that."""
_INTERRUPTED: Final = "the program was interrupted"
_ENDED_BY_USER: Final = "ended by the user"

logger = logging.getLogger(__name__)


class Following:
    """Does `FollowJob`s. Safe to run again for the same job after any interruption.

    `segment_seconds`: of media in a segment; `live_silence`: seconds without a picture that end a live source.
    """

    def __init__(
        self,
        segments: Segments,
        accesses: SourceAccesses,
        publishers: Publishers,
        *,
        segment_seconds: float,
        live_silence: float,
    ) -> None:
        self._segments = segments
        self._accesses = accesses
        self.publishers = publishers
        self._segment_seconds = segment_seconds
        self.live_silence = live_silence

    async def run(self, job: FollowJob) -> None:
        """Analyse the source until it ends. A failure that counts is recorded, not raised.

        Raises SupersededError, EnvironmentFailure, EventStoreErrors.
        """
        video = await self._segments.streams.load(job.video_id)
        active = video.active_runs()
        if not active or not video.followed:
            return
        run = FollowedRun(self._segments, video, active[0])
        try:
            await self._work(run, video, finish=job.finish)
        except (SourceFailure, RetryableFailure) as error:
            if run.log is None:
                raise
            _, now = await run.state()
            await self._segments.failed(run.log, now, error)
        except SupersededError:
            video = await self._segments.streams.load(job.video_id)
            if video.runs[run.request.run_id].active:
                raise

    async def _work(self, run: FollowedRun, video: Video, *, finish: bool) -> None:
        if finish:
            await run.disconnected(_ENDED_BY_USER)
            await run.finish_all()
            _, now = await run.state()
            await run.end(_ENDED_BY_USER if now.frames else f"{_ENDED_BY_USER} before a picture was analysed")
        elif video.live:
            await _LiveSource(self, run).follow()
        else:
            await self._follow_to_the_end(run)

    async def _follow_to_the_end(self, run: FollowedRun) -> None:
        """A source with an end: what breaks off is a failure of the open segment."""
        await run.finish_earlier()
        segment = await run.take_up()
        if segment is None:
            segment = await self.new_segment(run)
        done = await Follower(run, silence=None).follow(await self.request(run, segment), segment)
        if not done.end_of_source:
            raise RetryableFailure(done.broken or "the decoder ended before the source did")

    async def new_segment(self, run: FollowedRun) -> OpenSegment:
        """The one after all that are known."""
        number, first_frame = await run.next_place()
        return await run.begin(number, first_frame, 0.0 if first_frame == 1 else None)

    async def request(self, run: FollowedRun, segment: OpenSegment) -> FollowSource:
        """What the decoder is asked for, from the beginning of `segment` on."""
        video = await self._segments.streams.load(run.video_id)
        assert video.submitted is not None and video.probe is not None
        first = video.first_connection
        newest = await run.newest_before(segment) if run.live else None
        return FollowSource(
            access=await self._accesses.of(video.submitted, video.probe.transport),
            live=run.live,
            first_frame=segment.plan.first_frame,
            timeline_start=None if first is None else first.wall_time - first.timestamp,
            frame_step=run.request.frame_step,
            max_height=run.request.max_height,
            jpeg_quality=run.request.jpeg_quality,
            infer_from=run.request.infer_from,
            segment_seconds=self._segment_seconds,
            start=run.start_of(segment),
            timeline_least=run.after(newest),
            behind=None if newest is None else newest.position,
            feed=self._accesses.feed(run.video_id) if run.live and not run.pushed else None,
        )


class _LiveSource:
    """Connects to one live source, again and again."""

    def __init__(self, following: Following, run: FollowedRun) -> None:
        self._following = following
        self._run = run
        self._limit = following.live_silence
        self._pause = _FIRST_PAUSE
        self._last_picture = _now()

    async def follow(self) -> None:
        """Until the source has ended."""
        segment = await self._left_open()
        while True:
            if not await self._is_there():
                return await self._run.end(f"nobody published for {self._limit:g} s")
            if segment is None:
                segment = await self._following.new_segment(self._run)
            follower = Follower(self._run, silence=self._limit)
            failure = await self._connection(follower, segment)
            if failure is None:
                return
            if await self._has_ended(failure):
                return await self._run.end(await self._why(failure))
            logger.warning("video %s: the live source gives nothing: %s", self._run.video_id, failure)
            segment = None if follower.came_up else self._run.again(segment)
            await self._wait()

    async def _is_there(self) -> bool:
        """Whether there is anything to connect to: a publisher may come again, others are just tried."""
        if not self._run.pushed:
            return True
        return await self._following.publishers.wait(self._run.video_id, max(0.0, self._left()))

    async def _left_open(self) -> OpenSegment | None:
        """The newest segment if no connection was ever made for it; all others are finished."""
        await self._run.disconnected(_INTERRUPTED)  # by an earlier process, or by a failure of our own
        await self._run.finish_earlier()
        video, _ = await self._run.state()
        newest = video.newest_connection
        if newest is None or newest.segment + 1 < len(video.segments):
            segment = await self._run.take_up(only_empty=True)
            if segment is not None:
                return segment
        await self._run.finish_all()
        return None

    async def _connection(
        self, follower: Follower, segment: OpenSegment
    ) -> SourceFailure | RetryableFailure | None:
        """One connection to its end. Why it gave no more; None when the source came to its end in order."""
        started = _now()
        try:
            failure = await self._to_its_end(follower, segment)
        except EnvironmentFailure as error:  # the machine's fault, and the next connection's business
            if follower.came_up:
                await self._run.disconnected(str(error))
            raise
        if follower.came_up:
            self._last_picture = _now() - follower.waited
            if _now() - started > _LONGEST_PAUSE:
                self._pause = _FIRST_PAUSE
        return failure

    async def _to_its_end(
        self, follower: Follower, segment: OpenSegment
    ) -> SourceFailure | RetryableFailure | None:
        request = await self._following.request(self._run, segment)
        try:
            done = await follower.follow(request, segment, patience=max(1.0, self._left()))
        except (SourceFailure, RetryableFailure) as error:
            self._run.segments.storage.require_room()  # a full disk is not the source's fault
            if follower.came_up:
                await self._run.disconnected(str(error))
                await self._run.finish_all()
            return error
        return None if done.end_of_source else RetryableFailure(done.broken or "the connection ended")

    async def _has_ended(self, failure: SourceFailure | RetryableFailure) -> bool:
        if self._left() <= 0:
            return True
        return isinstance(failure, SourceFailure) and not await self._ever_connected()

    async def _why(self, failure: Exception) -> str:
        if self._left() > 0:
            return str(failure)
        if await self._ever_connected():
            return f"no picture came for {self._limit:g} s: {failure}"
        return f"the source gave no picture within {self._limit:g} s: {failure}"

    async def _ever_connected(self) -> bool:
        video, _ = await self._run.state()
        return video.connections > 0

    def _left(self) -> float:
        """Seconds until the source counts as ended."""
        return self._limit - (_now() - self._last_picture)

    async def _wait(self) -> None:
        pause = self._pause * random.uniform(0.75, 1.25)  # noqa: S311
        self._pause = min(self._pause * 2, _LONGEST_PUSHED_PAUSE if self._run.pushed else _LONGEST_PAUSE)
        await asyncio.sleep(min(pause, max(0.1, self._left())))


def _now() -> float:
    return asyncio.get_running_loop().time()
