"""Frames that lie in slots are judged by the models; the slots that a decode session holds come back, whatever ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn, Protocol

from monolith.application.errors import FrameRefusedError
from monolith.application.ports import Inference, Slots
from monolith.application.recorder import Judged, SegmentRecorder
from monolith.inference.messages import FrameRef, FrameResult
from monolith.ingest.messages import FrameReady

MAX_LENT: Final = 12
"""Slots that the decoder of a file may hold at once."""
MAX_HELD_LIVE: Final = 4
"""Slots that a live source may hold at once, those of frames that are being judged included: what there is no slot
for in time is lost, so that what is judged is never old."""


class Borrower(Protocol):
    """A decode session, as far as its slots go."""

    @property
    def outstanding_slots(self) -> frozenset[int]: ...

    async def lend(self, slots: Sequence[int]) -> None: ...


class SlotLoans:
    """The slots that one decode session holds: lent to its decoder, or with a frame that is being judged.

    `most`: how many the decoder may hold; `until_judged`: those with frames that are being judged count, too.
    """

    def __init__(self, slots: Slots, owner: str, most: int, *, until_judged: bool = False) -> None:
        self._slots = slots
        self._owner = owner
        self._until_judged = until_judged
        self._lendable = asyncio.Semaphore(most)
        self._held: set[int] = set()
        """A task that is cancelled before it begins gives none back, so they are counted here."""

    async def lend_to(self, session: Borrower) -> NoReturn:
        """Keep the decoder in free slots, but leave enough for other sources however slowly this one fills its own."""
        while True:
            await self._lendable.acquire()
            slot = await self._slots.acquire(self._owner)
            try:
                await session.lend([slot])
            except BaseException:
                if slot not in session.outstanding_slots:
                    self._slots.release(slot)
                raise

    def filled(self, slot: int) -> None:
        """The decoder has given a slot back, with a frame that is now to be judged."""
        self._held.add(slot)
        if not self._until_judged:
            self._lendable.release()

    def judged(self, slot: int) -> None:
        if self._until_judged:
            self._lendable.release()
        self.give_back([slot])

    def give_back(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._held.discard(slot)
            self._slots.release(slot)

    def end(self, session: Borrower | None) -> None:
        """All come back: when the session is over and nothing is judged any more."""
        if session is not None:
            self.give_back([*session.outstanding_slots, *self._held])


class FrameJudge:
    """Asks the models of one run about frames of one video."""

    def __init__(self, inference: Inference, models: Sequence[str], video_id: str) -> None:
        self._inference = inference
        self._models = models
        self._video_id = video_id

    async def judge(self, ready: FrameReady, recorder: SegmentRecorder, loans: SlotLoans) -> None:
        """Tell `recorder` what the models that have not judged the frame yet say; its slot comes back.

        Raises RetryableFailure, EnvironmentFailure.
        """
        frame = ready.frame
        reference = FrameRef(ready.slot, frame.width, frame.height)
        results: dict[str, FrameResult] = {}
        refused: dict[str, str] = {}
        try:
            async with asyncio.TaskGroup() as asked:
                for model in self._models:
                    if recorder.log.needs(frame.frame_number, model):
                        asked.create_task(self._ask(model, reference, results, refused))
        finally:
            loans.judged(ready.slot)
        recorder.judged(Judged(ready, results, refused))

    async def _ask(
        self, model: str, frame: FrameRef, results: dict[str, FrameResult], refused: dict[str, str]
    ) -> None:
        try:
            result = await self._inference.infer(model, frame, key=self._video_id)
        except FrameRefusedError as error:
            refused[model] = str(error)
            return
        if result.error is None:
            results[model] = result
        else:
            refused[model] = result.error
