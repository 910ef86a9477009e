"""An event store in KurrentDB (formerly EventStoreDB), shared by any number of processes.

Where it differs from the embedded store, because the server does:
- `read_all` and subscriptions show the events of deleted and tombstoned streams until the server has scavenged.
- An event id is checked against its own stream only, and at the place where the append expects to go.
- `stream_version` of a deleted stream is None; its positions go on all the same.
- Event types beginning with `$` are the server's: they are not shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Final
from uuid import UUID

import grpc
from kurrentdbclient import AsyncKurrentDBClient
from kurrentdbclient import StreamState as ServerState
from kurrentdbclient.exceptions import (
    KurrentDBClientError,
    MaximumAppendSizeExceededError,
    NotFoundError,
    ProgrammingError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)
from uuid_utils.compat import uuid7

from eventsourcing.adapters._kurrentdb_driver import driver_of
from eventsourcing.adapters._kurrentdb_events import (
    IDENTITY_STREAM,
    STATES,
    is_ours,
    proposed,
    recorded,
)
from eventsourcing.adapters._kurrentdb_reads import WholeReads
from eventsourcing.adapters._kurrentdb_subscription import KurrentDbSubscription
from eventsourcing.errors import (
    AppendTooLargeError,
    EventIdConflictError,
    StoreUnavailableError,
    StreamTombstonedError,
    WrongExpectedVersionError,
)
from eventsourcing.events import AppendResult, NewEvent, RecordedEvent
from eventsourcing.store import SubscriptionItem
from eventsourcing.subscription import PAGE_SIZE
from eventsourcing.versions import ANY, NO_STREAM, ExpectedVersion

DEADLINE_SECONDS: Final = 15.0
"""For one call to the server; its client makes each call twice, where the first fails."""
LONGEST_SECONDS: Final = 60.0
"""For all that a step of ours takes, with the client's looking for the leader of a cluster."""
IN_FLIGHT: Final = 128
"""Calls at the server at the same time; more callers wait for their turn."""
QUEUE_SIZE: Final = 4_096
"""Appends that may be waiting; more mean that the server does not keep up (see `waiting_appends`)."""
LIMITED_EVERY: Final = 1_000
"""Events of a stream after which the server is told again how many of them are wanted."""
_CLOSE_SECONDS: Final = 10.0
_KEEP_ALL: Final[Mapping[str, int]] = {}
_FIRST_LOOK_BACK: Final = 16


class KurrentDbEventStore:
    """The `EventStore` port over KurrentDB. Make it with `open`, in the event loop that uses it."""

    queue_size: Final = QUEUE_SIZE

    def __init__(
        self,
        client: AsyncKurrentDBClient,
        *,
        identity: str,
        last_position: int,
        page_size: int,
        keep_newest: Mapping[str, int] = _KEEP_ALL,
    ) -> None:
        self.identity = identity
        """Made with the first use of the server: what was derived from one store does not fit another."""
        self.last_position = last_position
        """The greatest commit position this process knows of; 0 before the first. It never falls."""
        self.closed = False
        self._client = client
        self._page_size = page_size
        self._keep_newest = keep_newest
        self._turns = asyncio.Semaphore(IN_FLIGHT)
        self._calls = 0
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._reads = WholeReads(client, DEADLINE_SECONDS)
        self._subscriptions: set[KurrentDbSubscription] = set()

    @classmethod
    async def open(
        cls,
        uri: str,
        *,
        root_certificates: bytes | None = None,
        page_size: int = PAGE_SIZE,
        keep_newest: Mapping[str, int] = _KEEP_ALL,
    ) -> KurrentDbEventStore:
        """Connect to the server at `uri` (`kurrentdb://…`, `kdb+discover://…`, `esdb://…`).

        `keep_newest`: prefix of streams of which only so many events are ever read again; the server may drop the rest.

        Raises ValueError for a URI that is none, StoreUnavailableError.
        """
        client = driver_of(uri, root_certificates)
        store = cls(client, identity="", last_position=0, page_size=page_size, keep_newest=keep_newest)
        try:
            store.identity = str(await store._identify())
            store.note(await store.head() or 0)
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def waiting_appends(self) -> int:
        """Appends that were taken and have not ended."""
        return self._waiting

    # Writing

    async def append(
        self, stream_name: str, events: Sequence[NewEvent], *, expected_version: ExpectedVersion
    ) -> AppendResult:
        if not events:
            raise ValueError("an append needs at least one event")
        if len({event.event_id for event in events}) < len(events):
            raise EventIdConflictError(f"stream {stream_name!r}: an event id stands twice in one append")
        if isinstance(expected_version, int) and expected_version < 0:
            raise WrongExpectedVersionError(
                stream_name, expected_version, await self.stream_version(stream_name)
            )
        self._waiting += 1
        try:
            async with self._call(stream_name):
                commit_position = await self._append(stream_name, events, expected_version)
                position = await self._place_of(stream_name, events, expected_version, commit_position)
                if expected_version is NO_STREAM or position % LIMITED_EVERY == 0:
                    await self._limit(stream_name)
            self.note(commit_position)
        finally:
            self._waiting -= 1
        return AppendResult(stream_position=position, commit_position=commit_position)

    async def _append(self, stream_name: str, events: Sequence[NewEvent], expected: ExpectedVersion) -> int:
        version = expected if isinstance(expected, int) else STATES[expected]
        new = [proposed(event) for event in events]
        try:
            return await self._client.append_to_stream(
                stream_name, events=new, current_version=version, timeout=DEADLINE_SECONDS
            )
        except WrongCurrentVersionError as error:
            actual = error.actual_version if isinstance(error.actual_version, int) else None
            if expected is ANY:
                raise EventIdConflictError(
                    f"stream {stream_name!r}: some of these events are stored already"
                ) from error
            raise WrongExpectedVersionError(stream_name, expected, actual) from error
        except MaximumAppendSizeExceededError as error:
            raise AppendTooLargeError(
                f"stream {stream_name!r}: {len(events)} events at once: {error}"
            ) from error

    async def _place_of(
        self, stream_name: str, events: Sequence[NewEvent], expected: ExpectedVersion, commit_position: int
    ) -> int:
        """Stream position of the last of `events`. The client does not say it: it follows from an exact version, else
        the event is looked up where it was committed."""
        if isinstance(expected, int):
            return expected + len(events)
        found = await self._reads.all(commit_position, [stream_name], limit=1)
        if found and found[0].id == events[-1].event_id:
            return found[0].stream_position
        return await self._search(stream_name, events[-1].event_id)

    async def _limit(self, stream_name: str) -> None:
        """Tell the server how many events of the stream are wanted, now and then: it may be away the first time, which
        is no reason to fail."""
        for prefix, count in self._keep_newest.items():
            if stream_name.startswith(prefix):
                with suppress(KurrentDBClientError, grpc.RpcError):
                    await self._client.set_stream_metadata(
                        stream_name, metadata={"$maxCount": count}, timeout=DEADLINE_SECONDS
                    )

    async def _search(self, stream_name: str, event_id: UUID) -> int:
        limit = _FIRST_LOOK_BACK
        while True:
            newest = await self._reads.stream(stream_name, None, backwards=True, limit=limit)
            for event in newest:
                if event.id == event_id:
                    return event.stream_position
            if len(newest) < limit:
                raise StoreUnavailableError(f"stream {stream_name!r} was removed while it was appended to")
            limit *= 16

    async def delete_stream(self, stream_name: str) -> None:
        try:
            async with self._call(stream_name):
                await self._client.delete_stream(
                    stream_name, current_version=ServerState.ANY, timeout=DEADLINE_SECONDS
                )
        except (_NotThereError, StreamTombstonedError):
            return

    async def tombstone_stream(self, stream_name: str) -> None:
        try:
            async with self._call(stream_name):
                await self._client.tombstone_stream(
                    stream_name, current_version=ServerState.ANY, timeout=DEADLINE_SECONDS
                )
        except (_NotThereError, StreamTombstonedError):
            return

    # Reading

    async def read_stream(
        self,
        stream_name: str,
        *,
        from_position: int | None = None,
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        _check_limit(limit)
        try:
            async with self._call(stream_name):
                if limit == 0:
                    return []
                events = await self._reads.stream(
                    stream_name, from_position, backwards=backwards, limit=limit
                )
        except (_NotThereError, StreamTombstonedError):
            return []
        return [recorded(event) for event in events]

    async def stream_version(self, stream_name: str) -> int | None:
        last = await self.read_stream(stream_name, backwards=True, limit=1)
        return last[0].stream_position if last else None

    async def read_all(
        self,
        *,
        after: int | None = None,
        prefixes: Sequence[str] = (),
        backwards: bool = False,
        limit: int = 1000,
    ) -> list[RecordedEvent]:
        _check_limit(limit)
        events: list[RecordedEvent] = []
        at_end = limit == 0
        self._check_open()
        while not at_end:
            wanted = limit - len(events) + 1  # the event at `after` comes, too, when reading forwards
            page, after, at_end = await self._read_page(after, prefixes, backwards, wanted)
            events += page
            at_end = at_end or len(events) >= limit
        return events[:limit]

    async def _read_page(
        self, after: int | None, prefixes: Sequence[str], backwards: bool, count: int
    ) -> tuple[list[RecordedEvent], int | None, bool]:
        """Events behind `after`, the position of the last one looked at, and whether there are no more."""
        async with self._call(""):
            seen = await self._reads.all(after, prefixes, backwards=backwards, limit=count)
        events = [recorded(event) for event in seen if is_ours(event) and event.commit_position != after]
        return events, seen[-1].commit_position if seen else after, len(seen) < count

    async def head(self) -> int | None:
        newest = await self.read_all(backwards=True, limit=1)
        if not newest:
            return None
        self.note(newest[0].commit_position)
        return newest[0].commit_position

    def subscribe(
        self, *, after: int | None = None, prefixes: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[SubscriptionItem]]:
        self._check_open()
        return self._subscribed(after, prefixes)

    @asynccontextmanager
    async def _subscribed(
        self, after: int | None, prefixes: Sequence[str]
    ) -> AsyncIterator[AsyncIterator[SubscriptionItem]]:
        subscription = KurrentDbSubscription(
            self._client, self, after=after, prefixes=prefixes, page_size=self._page_size
        )
        self._subscriptions.add(subscription)
        try:
            async with subscription as items:
                yield items
        finally:
            self._subscriptions.discard(subscription)

    # Closing

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for subscription in self._subscriptions:
            subscription.end()
        with suppress(TimeoutError):  # what is still under way fails when the connection goes
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._idle.wait()
        self._reads.cut = True
        with suppress(ProgrammingError):  # of a driver that has never found a server
            await self._client.close()

    async def _identify(self) -> UUID:
        """The id of the first event in the stream of that purpose, made by whoever comes first."""
        new = NewEvent(event_id=uuid7(), event_type="StoreIdentified", data=b"{}")
        with suppress(WrongExpectedVersionError):
            await self.append(IDENTITY_STREAM, [new], expected_version=NO_STREAM)
        [first] = await self.read_stream(IDENTITY_STREAM, limit=1)
        return first.event_id

    def note(self, position: int) -> None:
        """There is an event at this commit position."""
        self.last_position = max(self.last_position, position)

    def _check_open(self) -> None:
        if self.closed:
            raise StoreUnavailableError("the event store is closed")

    @asynccontextmanager
    async def _call(self, stream_name: str) -> AsyncIterator[None]:
        """One call to the server, in its turn; `close` waits for it."""
        self._check_open()
        self._calls += 1
        self._idle.clear()
        try:
            async with self._turns, asyncio.timeout(LONGEST_SECONDS):
                with _our_errors(stream_name):
                    yield
        except TimeoutError as error:
            raise StoreUnavailableError(f"KurrentDB: no answer within {LONGEST_SECONDS:g} s") from error
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()


class _NotThereError(StoreUnavailableError):
    """The server knows no such stream."""


@contextmanager
def _our_errors(stream_name: str) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise _NotThereError(f"stream {stream_name!r} is not there any more") from error
    except StreamIsDeletedError as error:
        raise StreamTombstonedError(stream_name) from error
    except (KurrentDBClientError, grpc.RpcError, grpc.aio.UsageError) as error:
        raise StoreUnavailableError(
            f"KurrentDB does not answer as it should: {type(error).__name__}: {error}"
        ) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancels the caller: the driver has closed the connection, since another call had failed.
        raise StoreUnavailableError(
            "the connection to KurrentDB was closed before the answer came"
        ) from error


def _check_limit(limit: int) -> None:
    if limit < 0:
        raise ValueError(f"limit must not be negative, not {limit}")
