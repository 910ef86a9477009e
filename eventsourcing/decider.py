"""Domain logic as pure functions, and the loop that runs it against a stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast
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
MAX_STATES: Final = 1000
_PAGE: Final = 250
"""Events folded at a time, before other tasks get their turn."""
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


class StateCache(Generic[S]):
    """States of streams that were used last, so that a long stream is not read again for each new event.

    A state that is kept may be old: what was appended since is read when it is used. Only for streams that are never
    deleted, and for states that are never changed in place. `max_events`: how many events the states may be made of,
    as long as there is more than one; `max_states`: how many states there may be, at least 1, for even one of few
    events takes kilobytes.
    """

    def __init__(self, max_events: int, max_states: int = MAX_STATES) -> None:
        self._max_events = max_events
        self._max_states = max_states
        self._events = 0
        self._states: dict[str, Loaded[S]] = {}

    def get(self, stream_name: str) -> Loaded[S] | None:
        return self._states.get(stream_name)

    def put(self, stream_name: str, loaded: Loaded[S]) -> None:
        """Keep it, unless a newer one is there; the states used longest ago go."""
        before = self._states.get(stream_name)
        if loaded.version is None or (before is not None and _size(before) > _size(loaded)):
            return
        self._states.pop(stream_name, None)
        self._states[stream_name] = loaded
        self._events += _size(loaded) - (_size(before) if before is not None else 0)
        while self._is_over():
            self._events -= _size(self._states.pop(next(iter(self._states))))

    def _is_over(self) -> bool:
        count = len(self._states)
        return count > self._max_states or (count > 1 and self._events > self._max_events)


def _size(loaded: Loaded[Any]) -> int:
    return 0 if loaded.version is None else loaded.version + 1


async def load(
    store: EventStore,
    codec: EventCodec,
    decider: Decider[S, C, E],
    stream_name: str,
    *,
    cache: StateCache[S] | None = None,
) -> Loaded[S]:
    """The state that the stream's events make. Raises the codec's and the store's errors."""
    known = None if cache is None else cache.get(stream_name)
    state, version = (decider.initial(), None) if known is None else (known.state, known.version)
    start = 0 if version is None else version + 1
    async for recorded in iterate_stream(store, stream_name, from_position=start, page=_PAGE):
        state = decider.evolve(state, cast(E, codec.decode(recorded)))
        version = recorded.stream_position
    loaded = Loaded(state, version)
    if cache is not None:
        cache.put(stream_name, loaded)
    return loaded


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
    cache: StateCache[S] | None = None,
) -> Outcome[S, E]:
    """Load the stream, decide, append what was decided; where another writer came first, all of it again.

    Raises what `decide` raises, WrongExpectedVersionError after `max_attempts` (at least 1) lost races, and
    the store's errors. `metadata` goes with each event.
    """
    for attempt in range(1, max_attempts + 1):
        loaded = await load(store, codec, decider, stream_name, cache=cache)
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
        if cache is not None and appended.stream_position == len(events) + _size(loaded) - 1:
            cache.put(stream_name, Loaded(state, appended.stream_position))
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
