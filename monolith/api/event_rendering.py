"""Events as users see them, rendered off the loop: a page of them may hold megabytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec

from eventsourcing.errors import EventStoreError
from eventsourcing.events import RecordedEvent
from monolith.api.answers import EventAnswer, iso_time
from monolith.readmodels.projector import EventDecoder

T = TypeVar("T")

_SMALL_BYTES: Final = 8 << 10
"""Events of so many bytes are rendered at once: it takes less time than the way to a thread."""
_SLICE_BYTES: Final = 256 << 10
_SLICE_EVENTS: Final = 64
_HIDDEN: Final = ("location", "path", "source_digest")
"""Fields with addresses inside the server, or that help to guess a secret."""

encode: Final = msgspec.json.Encoder().encode
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class EventRenderer:
    """Decodes and encodes events; in a thread where they are large, one slice at a time (`turn`) for all clients:
    several such threads would keep the loop from Python's lock."""

    def __init__(self, decoder: EventDecoder, turn: asyncio.Semaphore) -> None:
        self._decoder = decoder
        self._turn = turn

    def decode(self, recorded: RecordedEvent) -> msgspec.Struct | None:
        """None for an event that cannot be read: it is parked and counted where it is projected."""
        try:
            return self._decoder.decode(recorded)
        except EventStoreError:
            return None

    async def run(self, work: Callable[[], T], events: Sequence[RecordedEvent]) -> T:
        """The result of `work`, which renders `events` (one of `slices`)."""
        if size_of(events) <= _SMALL_BYTES:
            return work()
        async with self._turn:
            return await asyncio.to_thread(work)

    async def array(self, events: Sequence[RecordedEvent]) -> bytes:
        """`EventAnswer`s in JSON, joined by commas; those that cannot be read are left out."""
        parts = [await self.run(partial(self._joined, part), part) for part in slices(events)]
        return b",".join(filter(None, parts))

    def _joined(self, events: Sequence[RecordedEvent]) -> bytes:
        decoded = ((event, self.decode(event)) for event in events)
        return b",".join(encode(event_answer(event, found)) for event, found in decoded if found is not None)


def event_answer(recorded: RecordedEvent, event: msgspec.Struct) -> EventAnswer:
    """`event`: the decoded `recorded`."""
    data = _fields(encode(event))
    return EventAnswer(
        commit_position=recorded.commit_position,
        stream_name=recorded.stream_name,
        stream_position=recorded.stream_position,
        event_type=recorded.event_type,
        recorded_at=iso_time(recorded.recorded_at),
        data={name: value for name, value in data.items() if name not in _HIDDEN},
    )


def size_of(events: Sequence[RecordedEvent]) -> int:
    """Bytes of their data."""
    return sum(len(event.data) for event in events)


def slices(events: Sequence[RecordedEvent]) -> Iterator[list[RecordedEvent]]:
    """`events` in pieces, each of 256 KiB (or one event) and 64 events at most."""
    part: list[RecordedEvent] = []
    size = 0
    for event in events:
        if part and (size + len(event.data) > _SLICE_BYTES or len(part) == _SLICE_EVENTS):
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event.data)
    if part:
        yield part
