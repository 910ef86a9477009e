"""One attempt at a segment: frames from the decoder through the models into events.

Three tasks work at once for a decode session: one lends free slots to the decoder, one reads what the decoder says
and starts the models on each frame, one writes batches of events. What is in flight is bounded by the slots and by
`_MAX_UNWRITTEN`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from monolith.application.errors import FrameRefusedError, RetryableFailure, SourceFailure
from monolith.application.ports import DecodeRequest, Decoders, DecodeSession, Inference, Slots
from monolith.application.segment_log import SegmentLog
from monolith.domain.errors import SupersededError
from monolith.domain.events import (
    AnalysedFrame,
    FramesAnalysed,
    FramesDropped,
    FramesStored,
    ResultEvent,
    RunRequested,
)
from monolith.domain.models import ModelIdentity
from monolith.inference.messages import FrameRef, FrameResult
from monolith.ingest.messages import FrameReady, PackSynced, SegmentDone

BATCH_FRAMES: Final = 32
BATCH_SECONDS: Final = 0.25
MAX_LENT: Final = 12
"""Slots that a decoder may hold at once."""
_MAX_UNWRITTEN: Final = 256

_T = TypeVar("_T")


class Resources(msgspec.Struct, frozen=True):
    """What attempts share."""

    decoders: Decoders
    slots: Slots
    inference: Inference


class _Judged(msgspec.Struct, frozen=True):
    """A frame and what each model said: a result, or why there is none."""

    ready: FrameReady
    results: dict[str, FrameResult]
    refused: dict[str, str]


class Attempt:
    """Runs decode sessions for one segment and records what comes of them."""

    def __init__(self, log: SegmentLog, run: RunRequested, pack: str, resources: Resources) -> None:
        self._log = log
        self._run = run
        self._models = run.models
        self._pack = pack
        self._resources = resources
        self._owner = f"{log.job.run_id}/{log.job.segment}"
        self._unstored: list[FrameReady] = []
        self._judged: list[_Judged] = []
        self._held: set[int] = set()
        """Slots that hold a frame which is being judged; a task that is cancelled before it begins gives none back."""
        self._synced = 0
        self._work = asyncio.Event()
        self._reading = False
        self._room = asyncio.Semaphore(_MAX_UNWRITTEN)
        self._lendable = asyncio.Semaphore(MAX_LENT)

    async def judge(self, request: DecodeRequest) -> SegmentDone:
        """Run one decode session to its end; when this returns, every event of it is appended.

        Raises SourceFailure, RetryableFailure, SupersededError, EventStoreErrors.
        """
        session: DecodeSession | None = None
        try:
            async with self._resources.decoders.open(request) as session:
                return await self._work_through(session)
        except BaseExceptionGroup as group:
            cause = first_cause(group)
            if isinstance(cause, SourceFailure | RetryableFailure):
                await self._save_what_is_ready()
            raise cause from group
        finally:
            if session is not None:
                self._release([*session.outstanding_slots, *self._held])

    async def _work_through(self, session: DecodeSession) -> SegmentDone:
        self._reading = True
        self._lendable = asyncio.Semaphore(MAX_LENT)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(), name=f"writer of {self._owner}")
            lender = tasks.create_task(self._lend(session), name=f"lender of {self._owner}")
            async with asyncio.TaskGroup() as models:
                done = await self._read(session, models)
                lender.cancel()
            self._reading = False
            self._work.set()
        return done

    async def _lend(self, session: DecodeSession) -> None:
        """Keep the decoder in free slots, but leave enough for other sources however slowly this one fills its own."""
        while True:
            await self._lendable.acquire()
            slot = await self._resources.slots.acquire(self._owner)
            try:
                await session.lend([slot])
            except BaseException:
                if slot not in session.outstanding_slots:
                    self._resources.slots.release(slot)
                raise

    async def _read(self, session: DecodeSession, models: asyncio.TaskGroup) -> SegmentDone:
        async for message in session:
            match message:
                case FrameReady():
                    self._held.add(message.slot)
                    self._lendable.release()
                    await self._room.acquire()
                    self._unstored.append(message)
                    models.create_task(self._judge(message))
                case PackSynced():
                    self._synced = max(self._synced, message.frame_number)
                    self._work.set()
                case SegmentDone():
                    self._release(message.unused_slots)
                    return message
        raise RetryableFailure("the decoder ended without saying so")

    async def _judge(self, ready: FrameReady) -> None:
        frame = ready.frame
        reference = FrameRef(ready.slot, frame.width, frame.height)
        needed = [model for model in self._models if self._log.needs(frame.frame_number, model)]
        results: dict[str, FrameResult] = {}
        refused: dict[str, str] = {}
        try:
            async with asyncio.TaskGroup() as asked:
                for model in needed:
                    asked.create_task(self._ask(model, reference, results, refused))
        finally:
            self._release([ready.slot])
        self._judged.append(_Judged(ready, results, refused))
        if len(self._judged) >= BATCH_FRAMES:
            self._work.set()

    async def _ask(
        self, model: str, frame: FrameRef, results: dict[str, FrameResult], refused: dict[str, str]
    ) -> None:
        try:
            result = await self._resources.inference.infer(model, frame, key=self._log.job.video_id)
        except FrameRefusedError as error:
            refused[model] = str(error)
            return
        if result.error is None:
            results[model] = result
        else:
            refused[model] = result.error

    async def _write(self) -> None:
        """Append what is ready, at least every `BATCH_SECONDS`, in batches of at most `BATCH_FRAMES`."""
        while self._reading:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BATCH_SECONDS):
                    await self._work.wait()
            self._work.clear()
            await self._flush()
        await self._flush()

    async def _save_what_is_ready(self) -> None:
        """After a failure: the next attempt need not do it again. An append that was cut off may stand in the way."""
        with contextlib.suppress(SupersededError):
            await self._flush()

    async def _flush(self) -> None:
        await self._flush_stored()
        await self._flush_judged()

    async def _flush_stored(self) -> None:
        ready = [one for one in self._unstored if one.frame.frame_number <= self._synced]
        self._unstored = [one for one in self._unstored if one.frame.frame_number > self._synced]
        new = [one for one in ready if one.frame.frame_number not in self._log.stored]
        for batch in _batches(new):
            await self._log.append_frames([self._stored(batch)])

    def _stored(self, batch: list[FrameReady]) -> FramesStored:
        return FramesStored(
            video_id=self._log.job.video_id,
            segment=self._log.job.segment,
            attempt=self._log.attempt,
            pack=self._pack,
            frames=tuple(one.frame for one in batch),
            decode_seconds=sum(one.decode_seconds for one in batch),
            resize_seconds=sum(one.resize_seconds for one in batch),
            encode_seconds=sum(one.encode_seconds for one in batch),
        )

    async def _flush_judged(self) -> None:
        """Results follow the stored frames that they are about, never the other way round."""
        stored = self._log.stored
        ready = [one for one in self._judged if one.ready.frame.frame_number in stored]
        self._judged = [one for one in self._judged if one.ready.frame.frame_number not in stored]
        ready.sort(key=lambda one: one.ready.frame.frame_number)
        for batch in _batches(ready):
            await self._append_judged(batch)
            for _ in batch:
                self._room.release()

    async def _append_judged(self, batch: list[_Judged]) -> None:
        dropped = list(self._dropped(batch))
        if dropped:
            await self._log.append_frames(dropped)
        events: list[ResultEvent] = [
            event for model in self._models if (event := self._analysed(model, batch)) is not None
        ]
        if events:
            await self._log.append_results(events)

    def _analysed(self, model: str, batch: list[_Judged]) -> FramesAnalysed | None:
        frames = tuple(
            _analysed_frame(one.ready, one.results[model]) for one in batch if model in one.results
        )
        if not frames:
            return None
        job = self._log.job
        return FramesAnalysed(
            video_id=job.video_id,
            run_id=job.run_id,
            segment=job.segment,
            attempt=self._log.attempt,
            model=self._identity(model),
            frames=frames,
        )

    def _identity(self, model: str) -> ModelIdentity:
        """The model as it judged here: the run says what its pictures were taken from."""
        identity = self._resources.inference.identities[model]
        return msgspec.structs.replace(identity, infer_from=self._run.infer_from)

    def _dropped(self, batch: list[_Judged]) -> Iterator[FramesDropped]:
        reasons: dict[tuple[str, str], list[int]] = {}
        for one in batch:
            for model, reason in one.refused.items():
                reasons.setdefault((model, reason), []).append(one.ready.frame.frame_number)
        for (model, reason), numbers in reasons.items():
            yield self.dropped(numbers, reason, model)

    def dropped(self, numbers: Iterable[int], reason: str, model: str | None = None) -> FramesDropped:
        """The event that gives frames of this segment up."""
        job = self._log.job
        return FramesDropped(
            video_id=job.video_id,
            run_id=job.run_id,
            segment=job.segment,
            frame_numbers=tuple(sorted(numbers)),
            reason=reason,
            model=model,
        )

    def _release(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._held.discard(slot)
            self._resources.slots.release(slot)


def first_cause(error: BaseException) -> BaseException:
    """The first plain exception inside nested groups (the others were caused by it, or come again)."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _analysed_frame(ready: FrameReady, result: FrameResult) -> AnalysedFrame:
    return AnalysedFrame(
        frame_number=ready.frame.frame_number,
        timestamp=ready.frame.timestamp,
        detections=result.detections,
        started_at=result.started_at,
        seconds=result.seconds,
    )


def _batches(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), BATCH_FRAMES):
        yield items[start : start + BATCH_FRAMES]
