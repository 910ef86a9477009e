"""The gRPC services over a `Database`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any, Final
from uuid import uuid4

import grpc
from google.protobuf import any_pb2
from kurrentdbclient.protos.v1 import (
    gossip_pb2,
    gossip_pb2_grpc,
    shared_pb2,
    status_pb2,
    streams_pb2,
    streams_pb2_grpc,
)

from tests.peers.kurrentdb.database import (
    MAX_APPEND_BYTES,
    Database,
    Expect,
    Expected,
    NoStreamError,
    Proposed,
    Record,
    TombstonedError,
    TooLargeError,
    WrongVersionError,
)

Options = Any
Matches = Callable[[Record], bool]
_LIVE_PAGE: Final = 500


class Streams(streams_pb2_grpc.StreamsServicer):
    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = asyncio.Event()
        database.changed = self._wake

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def BatchAppend(  # noqa: N802
        self,
        request_iterator: AsyncIterator[streams_pb2.BatchAppendReq],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[streams_pb2.BatchAppendResp]:
        begun: dict[str, tuple[Options, list[Proposed]]] = {}
        async for request in request_iterator:
            key = request.correlation_id.string
            options, events = begun.setdefault(key, (request.options, []))
            events += map(_proposed, request.proposed_messages)
            if request.is_final:
                del begun[key]
                yield self._append(request.correlation_id, options, events)

    def _append(self, key: Any, options: Options, events: list[Proposed]) -> streams_pb2.BatchAppendResp:
        name = options.stream_identifier.stream_name.decode()
        response = streams_pb2.BatchAppendResp(
            correlation_id=key, stream_identifier=options.stream_identifier
        )
        try:
            done = self._database.append(name, _expected(options, "stream_position"), events)
        except WrongVersionError as error:
            response.error.CopyFrom(_status(_wrong_version(error)))
        except TombstonedError:
            response.error.CopyFrom(
                _status(shared_pb2.StreamDeleted(stream_identifier=options.stream_identifier))
            )
        except TooLargeError:
            response.error.CopyFrom(
                _status(shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=MAX_APPEND_BYTES))
            )
        else:
            response.success.current_revision = done.number
            response.success.position.commit_position = done.position
            response.success.position.prepare_position = done.position
        return response

    async def Delete(  # noqa: N802
        self, request: streams_pb2.DeleteReq, context: grpc.aio.ServicerContext[Any, Any]
    ) -> streams_pb2.DeleteResp:
        position = await self._remove(request.options, self._database.delete, context)
        return streams_pb2.DeleteResp(
            position=streams_pb2.DeleteResp.Position(commit_position=position, prepare_position=position)
        )

    async def Tombstone(  # noqa: N802
        self, request: streams_pb2.TombstoneReq, context: grpc.aio.ServicerContext[Any, Any]
    ) -> streams_pb2.TombstoneResp:
        position = await self._remove(request.options, self._database.tombstone, context)
        return streams_pb2.TombstoneResp(
            position=streams_pb2.TombstoneResp.Position(commit_position=position, prepare_position=position)
        )

    async def _remove(
        self,
        options: Options,
        remove: Callable[[str, Expected], int],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> int:
        name = options.stream_identifier.stream_name.decode()
        expected = _expected(options, "revision")
        try:
            return remove(name, expected)
        except TombstonedError:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Event stream '{name}' is deleted.")
        except (WrongVersionError, NoStreamError) as error:
            actual = error.actual if isinstance(error, WrongVersionError) else -1
            number = expected.value if isinstance(expected, Expect) else expected
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Delete failed due to WrongExpectedVersion. Stream: {name}, Expected version: {number},"
                f" Actual version: {actual}",
            )
        raise AssertionError("an abort raises")

    async def Read(  # noqa: N802
        self, request: streams_pb2.ReadReq, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[streams_pb2.ReadResp]:
        options = request.options
        if options.WhichOneof("stream_option") == "stream":
            async for response in self._read_stream(options, context):
                yield response
        elif options.WhichOneof("count_option") == "subscription":
            async for response in self._subscribe(options):
                yield response
        else:
            for record in islice(self._read_all(options), options.count):
                yield _event(record)

    async def _read_stream(
        self, options: Options, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[streams_pb2.ReadResp]:
        name = options.stream.stream_identifier.stream_name.decode()
        start = (
            options.stream.revision if options.stream.WhichOneof("revision_option") == "revision" else None
        )
        backwards = options.read_direction == streams_pb2.ReadReq.Options.Backwards
        try:
            records = self._database.read_stream(name, start, options.count, backwards=backwards)
        except NoStreamError:
            yield streams_pb2.ReadResp(
                stream_not_found=streams_pb2.ReadResp.StreamNotFound(
                    stream_identifier=options.stream.stream_identifier
                )
            )
            return
        except TombstonedError:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Event stream '{name}' is deleted.")
            raise AssertionError("an abort raises") from None
        for record in records:
            yield _event(record)

    def _read_all(self, options: Options) -> Iterator[Record]:
        position = _position_of(options)
        log, matches = self._database.log, _filter(options)
        if options.read_direction == streams_pb2.ReadReq.Options.Backwards:
            end = len(log) if position is None else self._database.after(position, inclusive=True)
            indexes: Iterator[int] = iter(range(end - 1, -1, -1))
        else:
            indexes = iter(range(self._database.after(position, inclusive=True), len(log)))
        return (log[index] for index in indexes if matches(log[index]))

    async def _subscribe(self, options: Options) -> AsyncIterator[streams_pb2.ReadResp]:
        yield streams_pb2.ReadResp(
            confirmation=streams_pb2.ReadResp.SubscriptionConfirmation(subscription_id=str(uuid4()))
        )
        position, matches = _position_of(options), _filter(options)
        if options.all.WhichOneof("all_option") == "end":
            position = self._database.log[-1].position if self._database.log else None
        interval = max(1, options.filter.max) * max(1, options.filter.checkpointIntervalMultiplier)
        looked_at, live = 0, False
        while True:
            changed = self._changed
            index = self._database.after(position)
            records = self._database.log[index : index + _LIVE_PAGE]
            for record in records:
                position = record.position
                if matches(record):
                    yield _event(record)
                looked_at += 1
                if looked_at % interval == 0 and options.WhichOneof("filter_option") == "filter":
                    yield _checkpoint(position)
            if len(records) == _LIVE_PAGE:
                continue
            if not live:
                live = True
                yield _caught_up(position)
            await changed.wait()


class Gossip(gossip_pb2_grpc.GossipServicer):
    """One node, the leader, at the address that it listens on."""

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port

    async def Read(  # noqa: N802
        self, request: shared_pb2.Empty, context: grpc.aio.ServicerContext[Any, Any]
    ) -> gossip_pb2.ClusterInfo:
        member = gossip_pb2.MemberInfo(
            instance_id=shared_pb2.UUID(string=str(uuid4())),
            state=gossip_pb2.MemberInfo.VNodeState.Leader,
            is_alive=True,
            http_end_point=gossip_pb2.EndPoint(address=self._address, port=self._port),
        )
        return gossip_pb2.ClusterInfo(members=[member])


def _proposed(message: streams_pb2.BatchAppendReq.ProposedMessage) -> Proposed:
    return Proposed(
        id=message.id.string,
        type=message.metadata["type"],
        content_type=message.metadata["content-type"],
        data=message.data,
        metadata=message.custom_metadata,
    )


def _expected(options: Options, position_field: str) -> Expected:
    match options.WhichOneof("expected_stream_position" if position_field == "stream_position" else
                             "expected_stream_revision"):  # fmt: skip
        case "no_stream":
            return Expect.NO_STREAM
        case "stream_exists":
            return Expect.EXISTS
        case "any":
            return Expect.ANY
        case _:
            return int(getattr(options, position_field))


def _wrong_version(error: WrongVersionError) -> shared_pb2.WrongExpectedVersion:
    details = shared_pb2.WrongExpectedVersion()
    if error.actual < 0:
        details.current_no_stream.SetInParent()
    else:
        details.current_stream_revision = error.actual
    return details


def _status(details: Any) -> status_pb2.Status:
    packed = any_pb2.Any()
    packed.Pack(details)
    return status_pb2.Status(message=type(details).__name__, details=packed)


def _event(record: Record) -> streams_pb2.ReadResp:
    event = record.event
    recorded = streams_pb2.ReadResp.ReadEvent.RecordedEvent(
        id=shared_pb2.UUID(string=event.id),
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=record.stream.encode()),
        stream_revision=record.number,
        prepare_position=record.position,
        commit_position=record.position,
        metadata={"type": event.type, "content-type": event.content_type, "created": str(record.created)},
        custom_metadata=event.metadata,
        data=event.data,
    )
    return streams_pb2.ReadResp(
        event=streams_pb2.ReadResp.ReadEvent(event=recorded, commit_position=record.position)
    )


def _checkpoint(position: int) -> streams_pb2.ReadResp:
    return streams_pb2.ReadResp(
        checkpoint=streams_pb2.ReadResp.Checkpoint(commit_position=position, prepare_position=position)
    )


def _caught_up(position: int | None) -> streams_pb2.ReadResp:
    caught_up = streams_pb2.ReadResp.CaughtUp()
    caught_up.timestamp.GetCurrentTime()
    if position is not None:
        caught_up.position.commit_position = position
        caught_up.position.prepare_position = position
    return streams_pb2.ReadResp(caught_up=caught_up)


def _position_of(options: Options) -> int | None:
    if options.all.WhichOneof("all_option") != "position":
        return None
    return int(options.all.position.commit_position)


def _filter(options: Options) -> Matches:
    if options.WhichOneof("filter_option") != "filter":
        return lambda record: True
    by_stream = options.filter.WhichOneof("filter") == "stream_identifier"
    expression = options.filter.stream_identifier if by_stream else options.filter.event_type
    fits: Callable[[str], Any]
    if expression.prefix:
        prefixes = tuple(expression.prefix)
        fits = lambda text: text.startswith(prefixes)  # noqa: E731
    else:
        fits = re.compile(expression.regex).search
    if by_stream:
        return lambda record: bool(fits(record.stream))
    return lambda record: bool(fits(record.event.type))
