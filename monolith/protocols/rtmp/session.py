"""One connection of a publisher, as the server sees it: bytes in, events and bytes out; no sockets, no clock.

A session goes through: handshake → `connect` → `createStream` (as often as the limits allow) → on each message stream
`publish` → media → an end → perhaps `publish` again. Everything before its turn is a ProtocolError. Media that come
after an end, whoever made it, were on their way: they are dropped.

Sources: Adobe, "Real-Time Messaging Protocol (RTMP) specification", version 1.0; Veovera, "Enhanced RTMP", version 2.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp import amf0, commands, messages
from monolith.protocols.rtmp.chunks import ChunkReader, Message
from monolith.protocols.rtmp.connection import UNPUBLISHED, Connection
from monolith.protocols.rtmp.events import (
    AudioMessage,
    Event,
    HandshakeDone,
    Metadata,
    PublishRequested,
    VideoMessage,
)
from monolith.protocols.rtmp.handshake import ServerHandshake
from monolith.protocols.rtmp.limits import Limits
from monolith.protocols.rtmp.messages import Output

DEFAULT_LIMITS: Final = Limits()
_MOST_CHUNK_SIZE: Final = 0x7FFFFFFF
_MEDIA: Final = frozenset({messages.AUDIO, messages.VIDEO, messages.AGGREGATE})
_COMMANDS: Final = frozenset({messages.COMMAND, messages.COMMAND_AMF3, messages.DATA, messages.DATA_AMF3})


class SessionError(ProtocolError):
    """Ends a session. `events`: what the same bytes told before they went wrong."""

    def __init__(self, reason: str, events: tuple[Event, ...]) -> None:
        super().__init__(reason)
        self.events = events


class ServerSession:
    """Feed `receive` with what came, then send `data_to_send`; after each answer, too.

    Timeouts, and what happens when the connection breaks, are the caller's.

    `more`: whether messages wait that came and were not gone through, since they are many: call `receive` again, with
    no bytes or with those that came meanwhile. `messages`: how many were gone through, counted by the work that they
    make (see `Limits`).
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._events: list[Event] = []
        self._output = Output()
        self._handshake = ServerHandshake()
        self._chunks = ChunkReader(limits, self._largest)
        self._connection = Connection(limits, self._output, self._tell)
        self._window = limits.window_size
        self._received = 0
        self._acknowledged = 0
        self._admitted = False
        self._dead = False
        self.more = False
        self.messages = 0

    @property
    def held(self) -> int:
        """Bytes of unfinished messages."""
        return self._chunks.held

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """The events in what came, however it was cut; of very many messages the first ones (see `more`). Raises
        SessionError, a ProtocolError, once (events that came before the error in the same call are in its `events`);
        later calls find nothing."""
        if self._dead:
            return []
        try:
            self._receive(bytes(data))
        except ProtocolError as error:
            self._dead, self.more = True, False
            raise SessionError(str(error), tuple(self._taken())) from error
        return self._taken()

    def data_to_send(self) -> bytes:
        """What has to be sent now, which is then forgotten. Empty where there is nothing."""
        return self._output.take()

    def accept_publish(self, request: PublishRequested) -> None:
        """Tell the peer to go on (NetStream.Publish.Start). It is told nothing where it gave up meanwhile."""
        self._admitted = True
        self._connection.accept(request)

    def refuse(self, request: PublishRequested, code: str, description: str) -> None:
        """Tell the peer that it may not publish (an onStatus of level error), for instance
        "NetStream.Publish.BadName". What it sends on that message stream is dropped from now on."""
        self._connection.end(request, "error", code, description)

    def close_publish(
        self,
        request: PublishRequested,
        code: str = UNPUBLISHED,
        description: str = "Publishing was ended.",
        *,
        error: bool = False,
    ) -> None:
        """Tell the peer that its publish was ended by us; `error`: by a status of level error. What it sends on that
        message stream is dropped from now on."""
        self._connection.end(request, "error" if error else "status", code, description)

    def _tell(self, event: Event) -> None:
        self._events.append(event)

    def _taken(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken

    def _largest(self, type_id: int) -> int:
        media = type_id in _MEDIA and self._connection.takes_media
        return self._limits.max_message_size if media else self._limits.max_command_size

    def _receive(self, data: bytes) -> None:
        self._received += len(data)
        if not self._handshake.done:
            data = self._shake(data)
        self._go_through(data)
        if self._received > self._limits.max_unpublished_size and not self._admitted:
            raise ProtocolError(
                f"more than {self._limits.max_unpublished_size} bytes before a publish was accepted"
            )
        if self._handshake.done and self._received - self._acknowledged >= self._window:
            self._acknowledged = self._received
            self._output.acknowledge(self._received)

    def _go_through(self, data: bytes) -> None:
        enough = self.messages + self._limits.max_at_once
        with closing(self._chunks.receive(data)) as found:
            for message in found:
                self._message(message)
                if self._output.size > self._limits.max_unsent_size:
                    raise ProtocolError(f"requests whose answers fill {self._output.size} bytes at a time")
                self.more = self.messages >= enough
                if self.more:
                    return
        self.more = False

    def _count(self, message: Message) -> None:
        """Of the work that it makes."""
        size, limits = len(message.payload), self._limits
        units = 1 + (size // limits.command_unit if message.type_id in _COMMANDS else 0)
        self.messages += units
        if self.messages > limits.max_unpublished_messages and not self._admitted:
            raise ProtocolError(
                f"more than {limits.max_unpublished_messages} messages before a publish was accepted"
            )

    def _shake(self, data: bytes) -> bytes:
        answer, behind = self._handshake.receive(data)
        self._output.raw(answer)
        if self._handshake.done:
            self._tell(HandshakeDone())
        return behind

    def _message(self, message: Message) -> None:
        """Types that are not named here mean nothing to a server of publishers."""
        self._count(message)
        kind = message.type_id
        if kind in (messages.VIDEO, messages.AUDIO):
            self._media(message)
        elif kind == messages.AGGREGATE:
            for part in messages.parts_of_aggregate(message, self._limits.max_parts):
                self._message(part)
        elif kind in (messages.COMMAND, messages.COMMAND_AMF3):
            self._connection.command(commands.parse(_amf0(message), self._limits), message.stream_id)
        elif kind in (messages.DATA, messages.DATA_AMF3):
            self._data(message)
        else:
            self._control(message)

    def _media(self, message: Message) -> None:
        stream = self._connection.media_stream(message.stream_id)
        if stream is None or not message.payload:
            return
        event = VideoMessage if message.type_id == messages.VIDEO else AudioMessage
        time = stream.clock(message.timestamp)
        self._tell(event(stream_id=message.stream_id, timestamp_ms=time, data=message.payload))

    def _data(self, message: Message) -> None:
        """Metadata are told of, captions and the like are not."""
        if not self._connection.publishes(message.stream_id):
            return
        values = amf0.Reader(
            _amf0(message),
            max_string_length=self._limits.max_string_length,
            max_depth=self._limits.max_depth,
        )
        name = values.value()
        if name == "@setDataFrame" and values.more:
            name = values.value()
        found = values.value() if name == "onMetaData" and values.more else None
        if isinstance(found, dict):
            self._tell(Metadata(stream_id=message.stream_id, values=found))

    def _control(self, message: Message) -> None:
        if message.type_id == messages.SET_CHUNK_SIZE:
            self._set_chunk_size(messages.number(message))
        elif message.type_id == messages.ABORT:
            self._chunks.abort(messages.number(message))
        elif message.type_id == messages.WINDOW_SIZE:
            self._set_window(messages.number(message))
        elif message.type_id == messages.USER_CONTROL and message.payload[:2] == messages.PING.to_bytes(
            2, "big"
        ):
            self._output.user_control(messages.PONG, message.payload[2:6])

    def _set_chunk_size(self, size: int) -> None:
        least = self._limits.min_chunk_size
        if not least <= size <= _MOST_CHUNK_SIZE:
            raise ProtocolError(f"a chunk size of {size} bytes; there must be {least} to {_MOST_CHUNK_SIZE}")
        self._chunks.chunk_size = min(size, self._limits.max_chunk_size)

    def _set_window(self, size: int) -> None:
        if size == 0:
            raise ProtocolError("an acknowledgement window of 0 bytes")
        self._window = size


def _amf0(message: Message) -> bytes:
    """The AMF 0 in a message's body. What is called AMF 3 there begins with a byte 0 and goes on with AMF 0."""
    if message.type_id in (messages.COMMAND_AMF3, messages.DATA_AMF3) and message.payload[:1] == b"\0":
        return message.payload[1:]
    return message.payload
