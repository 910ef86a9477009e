"""Domain logic as pure functions, and the loop that runs it against a stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, cast
from uuid import UUID

import msgspec

from eventsourcing.codec import EventCodec
from eventsourcing.errors import WrongExpectedVersionError
from eventsourcing.events import AppendResult
from eventsourcing.store import EventStore, iterate_stream
from eventsourcing.versions import NO_STREAM

S = TypeVar("S")
C_contra = TypeVar("C_contra", contravariant=True)
C = TypeVar("C")
E = TypeVar("E", bound=msgspec.Struct)

MAX_ATTEMPTS: Final = 5
BACKOFF_SECONDS: Final = 0.005
"""Longest sleep before the second attempt; it doubles with each further one."""


class Decider(Protocol[S, C_contra, E]):
    """Pure: no clock, no I/O, no random numbers; what it needs of those comes in the command."""

    def initial(self) -> S:
        """The state before any event."""
        ...

    def evolve(self, state: S, event: E) -> S:
        """The state after `event`. Never fails for an event that was once decided."""
        ...

    def decide(self, state: S, command: C_contra) -> Sequence[E]:
        """What happens because of `command`; nothing where it is already done. Raises domain errors to refuse."""
        ...


EventIds: TypeAlias = Callable[[E, int], UUID]
"""The id of an event, given it and its index among the events decided: the same on each retry of a command."""


class Loaded(msgspec.Struct, Generic[S], frozen=True):
    """A state and the stream position of the last event in it (None: no events)."""

    state: S
    version: int | None


class Outcome(msgspec.Struct, Generic[S, E], frozen=True, kw_only=True):
    """The state after the command, the events it caused, and where the last of them went (None: none)."""

    state: S
    events: tuple[E, ...]
    stream_position: int | None
    commit_position: int | None


async def load(
    store: EventStore, codec: EventCodec, decider: Decider[S, C, E], stream_name: str
) -> Loaded[S]:
    """The state that the stream's events make. Raises the codec's and the store's errors."""
    state, version = decider.initial(), None
    async for recorded in iterate_stream(store, stream_name):
        state = decider.evolve(state, cast(E, codec.decode(recorded)))
        version = recorded.stream_position
    return Loaded(state, version)


async def execute(
    store: EventStore,
    codec: EventCodec,
    decider: Decider[S, C, E],
    stream_name: str,
    command: C,
    *,
    metadata: Mapping[str, str] | None = None,
    event_ids: EventIds[E] | None = None,
    max_attempts: int = MAX_ATTEMPTS,
) -> Outcome[S, E]:
    """Load the stream, decide, append what was decided; where another writer came first, all of it again.

    Raises what `decide` raises, WrongExpectedVersionError after `max_attempts` (at least 1) lost races, and
    the store's errors. `metadata` goes with each event.
    """
    for attempt in range(1, max_attempts + 1):
        loaded = await load(store, codec, decider, stream_name)
        events = tuple(decider.decide(loaded.state, command))
        if not events:
            return Outcome(state=loaded.state, events=(), stream_position=None, commit_position=None)
        try:
            appended = await _append(store, codec, stream_name, events, loaded.version, metadata, event_ids)
        except WrongExpectedVersionError:
            if attempt == max_attempts:
                raise
            await asyncio.sleep(random.uniform(0, BACKOFF_SECONDS * 2 ** (attempt - 1)))  # noqa: S311
            continue
        state = loaded.state
        for event in events:
            state = decider.evolve(state, event)
        return Outcome(
            state=state,
            events=events,
            stream_position=appended.stream_position,
            commit_position=appended.commit_position,
        )
    raise ValueError(f"max_attempts must be at least 1, not {max_attempts}")


async def _append(
    store: EventStore,
    codec: EventCodec,
    stream_name: str,
    events: Sequence[E],
    version: int | None,
    metadata: Mapping[str, str] | None,
    event_ids: EventIds[E] | None,
) -> AppendResult:
    new = [
        codec.encode(event, event_id=event_ids(event, index) if event_ids else None, metadata=metadata)
        for index, event in enumerate(events)
    ]
    expected = NO_STREAM if version is None else version
    return await store.append(stream_name, new, expected_version=expected)
