"""What comes of a segment's frames, appended to its streams in batches by one task.

Results wait until the frames that they are about are stored. What is in flight is bounded by the slots and by
`_MAX_UNWRITTEN`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

import msgspec

from monolith.application.segment_log import SegmentLog
from monolith.domain.errors import SupersededError
from monolith.domain.events import AnalysedFrame, FramesAnalysed, FramesStored, ResultEvent, RunRequested
from monolith.domain.models import ModelIdentity
from monolith.inference.messages import FrameResult
from monolith.ingest.messages import FrameReady

BATCH_FRAMES: Final = 32
BATCH_SECONDS: Final = 0.25
_LOSS_SECONDS: Final = 1.0
"""Live, losses may be as many as pictures: for so long they are gathered, where nothing else is to be written."""
_MAX_UNWRITTEN: Final = 256

_T = TypeVar("_T")


class Judged(msgspec.Struct, frozen=True):
    """A frame and what each model said: a result, or why there is none."""

    ready: FrameReady
    results: dict[str, FrameResult]
    refused: dict[str, str]


class SegmentRecorder:
    """Takes the frames of one decode session that belong to one segment; `write` appends them until `end`.

    `at_once`: every frame that is not lost is an event of its own, as soon as it can be one (live sources).
    """

    def __init__(
        self,
        log: SegmentLog,
        run: RunRequested,
        pack: str,
        identities: Mapping[str, ModelIdentity],
        *,
        at_once: bool = False,
    ) -> None:
        self.log = log
        self._run = run
        self._pack = pack
        self._identities = identities
        self._at_once = at_once
        self._batch = 1 if at_once else BATCH_FRAMES
        self._unstored: list[FrameReady] = []
        self._lost: dict[str, list[int]] = {}
        """Reason → frame numbers."""
        self._judged: list[Judged] = []
        self._unjudged = 0
        self._synced = 0
        self._ended = False
        self._work = asyncio.Event()
        self._room = asyncio.Semaphore(_MAX_UNWRITTEN)
        self._appending = asyncio.Lock()

    async def frame(self, ready: FrameReady) -> None:
        """One more frame, to be judged; waits while too many are not written. `judged` must follow."""
        await self._room.acquire()
        self._unstored.append(ready)
        self._unjudged += 1

    def synced(self, frame_number: int) -> None:
        """All frames up to `frame_number` are on the disk."""
        self._synced = max(self._synced, frame_number)
        self._work.set()

    def lost(self, frame_numbers: tuple[int, ...], reason: str) -> None:
        """Sampled frames that no model will have."""
        if frame_numbers:
            self._lost.setdefault(reason, []).extend(frame_numbers)
            if not self._at_once:
                self._work.set()

    def judged(self, judged: Judged) -> None:
        self._judged.append(judged)
        self._unjudged -= 1
        if self._at_once or self._is_done() or len(self._judged) >= self._batch:
            self._work.set()

    def end(self) -> None:
        """No more frames come: `write` ends when those that are there are judged and appended."""
        self._ended = True
        self._work.set()

    async def write(self) -> None:
        """Append what is ready, at least every `BATCH_SECONDS` (live: what was lost, every `_LOSS_SECONDS`). Raises
        SupersededError, EventStoreErrors."""
        longest = _LOSS_SECONDS if self._at_once else BATCH_SECONDS
        while not self._is_done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest):
                    await self._work.wait()
            self._work.clear()
            await self._flush()
        await self._flush()

    def _is_done(self) -> bool:
        return self._ended and not self._unjudged

    async def store(self) -> None:
        """When this returns, all frames that were synced or lost are in events."""
        async with self._appending:
            await self._flush_stored()

    async def save(self, why_unsynced: str | None = None) -> None:
        """After a failure: the next attempt need not do again what is ready. `why_unsynced`: gives up the frames that
        were not synced (those of a live source do not come again)."""
        with contextlib.suppress(SupersededError):
            await self._flush()
            if why_unsynced is not None and self._unstored:
                await self.log.give_up((one.frame.frame_number for one in self._unstored), why_unsynced)

    async def _flush(self) -> None:
        async with self._appending:
            await self._flush_stored()
            await self._flush_judged()

    async def _flush_stored(self) -> None:
        """What is cut off in the midst is done by the next call: nothing is forgotten before it is in events."""
        ready = [one for one in self._unstored if one.frame.frame_number <= self._synced]
        new = [one for one in ready if one.frame.frame_number not in self.log.stored]
        for batch in self._batches(new):
            await self.log.append_frames([self._stored(batch)])
        self._unstored = [one for one in self._unstored if one.frame.frame_number not in self.log.stored]
        for reason in tuple(self._lost):
            numbers = tuple(self._lost[reason])
            unsettled = (n for n in numbers if not self.log.is_settled(n, self._run.models))
            await self.log.give_up(unsettled, reason)
            del self._lost[reason][: len(numbers)]
        self._lost = {reason: numbers for reason, numbers in self._lost.items() if numbers}

    def _stored(self, batch: list[FrameReady]) -> FramesStored:
        return FramesStored(
            video_id=self.log.job.video_id,
            segment=self.log.job.segment,
            attempt=self.log.attempt,
            pack=self._pack,
            frames=tuple(one.frame for one in batch),
            decode_seconds=sum(one.decode_seconds for one in batch),
            resize_seconds=sum(one.resize_seconds for one in batch),
            encode_seconds=sum(one.encode_seconds for one in batch),
            position=batch[-1].position,
        )

    async def _flush_judged(self) -> None:
        """Results follow the stored frames that they are about, never the other way round."""
        stored = self.log.stored
        ready = [one for one in self._judged if one.ready.frame.frame_number in stored]
        self._judged = [one for one in self._judged if one.ready.frame.frame_number not in stored]
        ready.sort(key=lambda one: one.ready.frame.frame_number)
        for batch in self._batches(ready):
            await self._append_judged(batch)
            for _ in batch:
                self._room.release()

    async def _append_judged(self, batch: list[Judged]) -> None:
        reasons: dict[tuple[str, str], list[int]] = {}
        for one in batch:
            for model, reason in one.refused.items():
                reasons.setdefault((model, reason), []).append(one.ready.frame.frame_number)
        for (model, reason), numbers in reasons.items():
            await self.log.give_up(numbers, reason, model)
        events: list[ResultEvent] = [
            event for model in self._run.models if (event := self._analysed(model, batch)) is not None
        ]
        if events:
            await self.log.append_results(events)

    def _analysed(self, model: str, batch: list[Judged]) -> FramesAnalysed | None:
        frames = tuple(
            _analysed_frame(one.ready, one.results[model]) for one in batch if model in one.results
        )
        if not frames:
            return None
        job = self.log.job
        return FramesAnalysed(
            video_id=job.video_id,
            run_id=job.run_id,
            segment=job.segment,
            attempt=self.log.attempt,
            model=self._identity(model),
            frames=frames,
        )

    def _identity(self, model: str) -> ModelIdentity:
        """The model as it judged here: the run says what its pictures were taken from."""
        return msgspec.structs.replace(self._identities[model], infer_from=self._run.infer_from)

    def _batches(self, items: list[_T]) -> Iterator[list[_T]]:
        for start in range(0, len(items), self._batch):
            yield items[start : start + self._batch]


def _analysed_frame(ready: FrameReady, result: FrameResult) -> AnalysedFrame:
    return AnalysedFrame(
        frame_number=ready.frame.frame_number,
        timestamp=ready.frame.timestamp,
        detections=result.detections,
        started_at=result.started_at,
        seconds=result.seconds,
    )
