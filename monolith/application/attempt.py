"""One attempt at a segment of a file: frames from the decoder through the models into events.

Three tasks work at once for a decode session: one lends free slots to the decoder, one reads what the decoder says
and starts the models on each frame, one writes batches of events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from monolith.application.errors import RetryableFailure, SourceFailure
from monolith.application.judging import MAX_LENT, FrameJudge, SlotLoans
from monolith.application.ports import (
    DecodeRequest,
    Decoders,
    DecodeSession,
    FrameWatcher,
    Inference,
    Slots,
)
from monolith.application.recorder import SegmentRecorder
from monolith.application.segment_log import SegmentLog
from monolith.domain.events import RunRequested
from monolith.ingest.messages import FrameReady, PackSynced, SegmentDone

_T = TypeVar("_T")


def _nobody(video_id: str, ready: FrameReady) -> None:
    """Who watches where nobody does."""


class Resources(msgspec.Struct, frozen=True):
    """What attempts share. `live_slots`: for sources that cannot wait for those of files."""

    decoders: Decoders
    slots: Slots
    inference: Inference
    live_slots: Slots
    watcher: FrameWatcher = _nobody


class Attempt:
    """Runs decode sessions for one segment and records what comes of them."""

    def __init__(self, log: SegmentLog, run: RunRequested, pack: str, resources: Resources) -> None:
        self._log = log
        self._run = run
        self._pack = pack
        self._resources = resources
        self._owner = f"{log.job.run_id}/{log.job.segment}"

    async def judge(self, request: DecodeRequest) -> SegmentDone:
        """Run one decode session to its end; when this returns, every event of it is appended.

        Raises SourceFailure, RetryableFailure, SupersededError, EventStoreErrors.
        """
        identities = self._resources.inference.identities
        recorder = SegmentRecorder(self._log, self._run, self._pack, identities)
        loans = SlotLoans(self._resources.slots, self._owner, MAX_LENT)
        session: DecodeSession | None = None
        try:
            async with self._resources.decoders.open(request) as session:
                return await in_own_task(self._work_through(session, recorder, loans))
        except BaseExceptionGroup as group:
            cause = first_cause(group)
            if isinstance(cause, SourceFailure | RetryableFailure):
                await recorder.save()
            raise cause from group
        finally:
            loans.end(session)

    async def _work_through(
        self, session: DecodeSession, recorder: SegmentRecorder, loans: SlotLoans
    ) -> SegmentDone:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(recorder.write(), name=f"writer of {self._owner}")
            lender = tasks.create_task(loans.lend_to(session), name=f"lender of {self._owner}")
            done = await self._read(session, recorder, loans, tasks)
            lender.cancel()
            recorder.end()
        return done

    async def _read(
        self, session: DecodeSession, recorder: SegmentRecorder, loans: SlotLoans, tasks: asyncio.TaskGroup
    ) -> SegmentDone:
        judge = FrameJudge(self._resources.inference, self._run.models, self._log.job.video_id)
        async for message in session:
            match message:
                case FrameReady():
                    loans.filled(message.slot)
                    await recorder.frame(message)
                    tasks.create_task(judge.judge(message, recorder, loans))
                case PackSynced():
                    recorder.synced(message.frame_number)
                case SegmentDone():
                    loans.give_back(message.unused_slots)
                    return message
        raise RetryableFailure("the decoder ended without saying so")


async def in_own_task(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which runs task groups; a cancellation ends it, and is raised when it has ended.

    In Python 3.11 a task group that has an error to raise swallows a cancellation that comes at the same time, and may
    leave its task counted as being cancelled: both stay in a task of their own here.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            task.cancel()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at: the cancellation goes before it
        raise cancelled
    return task.result()


def first_cause(error: BaseException) -> BaseException:
    """The first plain exception inside nested groups (the others were caused by it, or come again)."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
