"""Results of a live video's newest frames, read once from the event store for all who watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from eventsourcing.errors import EventStoreError
from eventsourcing.events import RecordedEvent
from eventsourcing.store import EventStore, iterate_stream
from monolith.domain.detection import Detection, at_least
from monolith.domain.events import AnalysedFrame, FramesAnalysed, RunRequested, VideoDeleted, video_stream
from monolith.domain.models import DEFAULT_THRESHOLDS, INFERENCE_MODEL_NAMES
from monolith.live.playback.frame_times import FrameTime, FrameTimes
from monolith.readmodels.projector import EventDecoder
from monolith.readmodels.rendering import entry

_RETRY_SECONDS: Final = 2.0
_encode: Final = msgspec.json.Encoder().encode

logger = logging.getLogger(__name__)


class LiveResult(msgspec.Struct, frozen=True):
    """What one model found in one frame, as far as it is sure enough to be shown. `entries`: as in `/results`."""

    model: str
    frame_number: int
    timestamp: float
    time: FrameTime
    detections: tuple[Detection, ...]
    entries: msgspec.Raw


class LiveResults:
    """Finds the results of live videos as they are recorded."""

    def __init__(self, store: EventStore, decoder: EventDecoder, times: FrameTimes) -> None:
        self._store = store
        self._decoder = decoder
        self._times = times

    async def follow(self, video_id: str, take: Callable[[LiveResult], None]) -> None:
        """Call `take` with each result until cancelled, the video is deleted or the store closes."""
        with self._times.watching(video_id):
            after = await self._store.head()
            runs = await self._runs(video_id)
            while (position := await self._follow(video_id, runs, after, take)) is not None:
                after = position

    async def _runs(self, video_id: str) -> set[str]:
        events = iterate_stream(self._store, video_stream(video_id))
        decoded = [self._decode(recorded) async for recorded in events]
        return {event.run_id for event in decoded if isinstance(event, RunRequested)}

    async def _follow(
        self, video_id: str, runs: set[str], after: int | None, take: Callable[[LiveResult], None]
    ) -> int | None:
        """Until there is another run, then the position to go on after; None at the end."""
        prefixes = [video_stream(video_id), *(f"results-{run_id}-" for run_id in sorted(runs))]
        async with self._store.subscribe(after=after, prefixes=prefixes) as items:
            async for item in items:
                for recorded in item if isinstance(item, list) else ():
                    match event := self._decode(recorded):
                        case VideoDeleted():
                            return None
                        case RunRequested() if event.run_id not in runs:
                            runs.add(event.run_id)
                            return recorded.commit_position
                        case FramesAnalysed():
                            for result in self._results(event):
                                take(result)
        return None

    def _decode(self, recorded: RecordedEvent) -> msgspec.Struct | None:
        try:
            return self._decoder.decode(recorded)
        except EventStoreError:
            return None

    def _results(self, event: FramesAnalysed) -> list[LiveResult]:
        """Of the frames whose times are known."""
        key = event.model.key
        found = ((frame, self._times.of(event.video_id, frame.frame_number)) for frame in event.frames)
        return [_result(key, frame, time) for frame, time in found if time is not None]


def _result(model_key: str, frame: AnalysedFrame, time: FrameTime) -> LiveResult:
    shown = tuple(one for one in frame.detections if at_least(one, DEFAULT_THRESHOLDS[model_key]))
    entries = msgspec.Raw(_encode([entry(one) for one in shown]))
    name = INFERENCE_MODEL_NAMES[model_key]
    return LiveResult(name, frame.frame_number, frame.timestamp, time, shown, entries)


async def keep_following(results: LiveResults, video_id: str, take: Callable[[LiveResult], None]) -> None:
    """`follow`, begun again after a failure of the store."""
    while True:
        try:
            await results.follow(video_id, take)
        except EventStoreError as error:
            logger.warning("the live results of video %s were interrupted: %s", video_id, error)
            await asyncio.sleep(_RETRY_SECONDS)
        except Exception:
            logger.exception("the live results of video %s were lost", video_id)
            return
        else:
            return
