"""What a publisher asks for by commands: its connection and its message streams, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp import commands
from monolith.protocols.rtmp.commands import Command
from monolith.protocols.rtmp.events import (
    ConnectRequested,
    Event,
    PlayRefused,
    PublishEnded,
    PublishRequested,
)
from monolith.protocols.rtmp.limits import Limits
from monolith.protocols.rtmp.messages import STREAM_BEGIN, Output
from monolith.protocols.rtmp.timestamps import Unwrapper

_CHUNK_SIZE: Final = 4096
PUBLISH_START: Final = "NetStream.Publish.Start"
UNPUBLISHED: Final = "NetStream.Unpublish.Success"
_BAD_NAME: Final = "NetStream.Publish.BadName"
_PLAY_FAILED: Final = "NetStream.Play.Failed"


class MessageStream:
    """`request` is the newest one. State: `open` (created, no publish yet), `requested`, `publishing`, `ended`."""

    def __init__(self) -> None:
        self.state: Literal["open", "requested", "publishing", "ended"] = "open"
        self.request: PublishRequested | None = None
        self.clock = Unwrapper()

    @property
    def live(self) -> bool:
        return self.state in ("requested", "publishing")


class Connection:
    """Answers commands to `output` and tells `tell` of them. Every method that reads raises ProtocolError."""

    def __init__(self, limits: Limits, output: Output, tell: Callable[[Event], None]) -> None:
        self._limits = limits
        self._output = output
        self._tell = tell
        self._app: str | None = None
        self._streams: dict[int, MessageStream] = {}
        self._greatest = 0  # id of all message streams that ever were
        self._handlers: dict[str, Callable[[Command, int], None]] = {
            "connect": self._connect,
            "createStream": self._create_stream,
            "deleteStream": self._delete_stream,
            "closeStream": self._close_stream,
            "releaseStream": self._release_stream,
            "FCPublish": self._fc_publish,
            "FCUnpublish": self._fc_unpublish,
            "publish": self._publish,
            "play": self._play,
            "play2": self._play,
        }

    @property
    def takes_media(self) -> bool:
        """Whether a publish was asked for, at any time."""
        return any(stream.state != "open" for stream in self._streams.values())

    def media_stream(self, stream_id: int) -> MessageStream | None:
        """The message stream that media came on; None where they are to be dropped. Raises ProtocolError where no
        publish was asked for."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.state != "open":
            return stream if stream.live else None
        if stream is None and 0 < stream_id <= self._greatest:
            return None
        raise ProtocolError(f"media on message stream {stream_id}, where nothing is published")

    def publishes(self, stream_id: int) -> bool:
        """Whether a publish was asked for on this message stream, and has not ended."""
        return stream_id in self._streams and self._streams[stream_id].live

    def command(self, command: Command, stream_id: int) -> None:
        handler = self._handlers.get(command.name)
        if self._app is None and handler != self._connect:
            raise ProtocolError(f"the command {command.name[:64]!r} before connect")
        if handler is not None:
            handler(command, stream_id)
        elif command.transaction:
            self._output.command(commands.unknown(command.transaction, command.name))

    def accept(self, request: PublishRequested) -> None:
        stream = self._streams.get(request.stream_id)
        if stream is None or stream.request is not request or stream.state != "requested":
            return
        stream.state = "publishing"
        self._output.user_control(STREAM_BEGIN, request.stream_id.to_bytes(4, "big"))
        self._status(request.stream_id, "status", PUBLISH_START, "Publishing is on.")

    def end(self, request: PublishRequested, level: str, code: str, description: str) -> None:
        stream = self._streams.get(request.stream_id)
        if stream is None or stream.request is not request or not stream.live:
            return
        stream.state = "ended"
        self._status(request.stream_id, level, code, description)

    def _status(self, stream_id: int, level: str, code: str, description: str) -> None:
        self._output.command(commands.status(level, code, description), stream_id)

    def _connect(self, command: Command, _: int) -> None:
        if self._app is not None:
            raise ProtocolError("connect came twice; one connection has one application")
        options = command.target
        app = options.get("app") if isinstance(options, dict) else None
        if not isinstance(options, dict) or not isinstance(app, str) or not app:
            raise ProtocolError("connect names no application; the URL must be rtmp://HOST/APPLICATION/KEY")
        self._app = app.strip("/")
        fourcc = commands.fourcc_of(options)
        self._output.window(self._limits.window_size)
        self._output.set_chunk_size(_CHUNK_SIZE)
        self._output.user_control(STREAM_BEGIN, bytes(4))
        self._output.command(commands.connected(command.transaction, enhanced=bool(fourcc)))
        url, version = options.get("tcUrl"), options.get("flashVer")
        self._tell(
            ConnectRequested(
                app=self._app,
                tc_url=url if isinstance(url, str) else "",
                flash_version=version if isinstance(version, str) else "",
                fourcc=fourcc,
            )
        )

    def _create_stream(self, command: Command, _: int) -> None:
        if len(self._streams) == self._limits.max_streams:
            raise ProtocolError(f"more than {self._limits.max_streams} message streams")
        stream_id = next(number for number in range(1, len(self._streams) + 2) if number not in self._streams)
        self._streams[stream_id] = MessageStream()
        self._greatest = max(self._greatest, stream_id)
        self._output.command(commands.result(command.transaction, stream_id))

    def _publish(self, command: Command, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            raise ProtocolError(f"publish on message stream {stream_id}, which createStream did not make")
        if stream.live:
            raise ProtocolError(f"publish came twice on message stream {stream_id}")
        key, kind = command.argument(0), command.argument(1)
        stream.state, stream.clock = "ended", Unwrapper()
        if not isinstance(key, str) or not key:
            self._status(
                stream_id, "error", _BAD_NAME, "A stream key is missing: rtmp://HOST/APPLICATION/KEY"
            )
            return
        assert self._app is not None
        request = PublishRequested(
            stream_id=stream_id, app=self._app, stream_key=key, kind=kind if isinstance(kind, str) else "live"
        )
        stream.state, stream.request = "requested", request
        self._tell(request)

    def _play(self, _: Command, stream_id: int) -> None:
        self._status(stream_id, "error", _PLAY_FAILED, "Nothing is played by RTMP here; use WHEP.")
        self._tell(PlayRefused(stream_id=stream_id))

    def _release_stream(self, command: Command, _: int) -> None:
        self._output.command(commands.result(command.transaction))

    def _fc_publish(self, command: Command, _: int) -> None:
        self._output.command(commands.result(command.transaction))
        self._output.command(commands.notice("onFCPublish", PUBLISH_START))

    def _fc_unpublish(self, command: Command, _: int) -> None:
        key = command.argument(0)
        for stream_id, stream in self._streams.items():
            if stream.request is not None and stream.request.stream_key == key:
                self._ended(stream_id, stream, command.name)
        self._output.command(commands.notice("onFCUnpublish", UNPUBLISHED))

    def _close_stream(self, command: Command, stream_id: int) -> None:
        if stream_id in self._streams:
            self._ended(stream_id, self._streams[stream_id], command.name)

    def _delete_stream(self, command: Command, _: int) -> None:
        number = command.argument(0)
        stream_id = int(number) if isinstance(number, float) and number.is_integer() else 0
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._ended(stream_id, stream, command.name)
            del self._streams[stream_id]

    def _ended(self, stream_id: int, stream: MessageStream, by: str) -> None:
        if stream.live:
            stream.state = "ended"
            self._status(stream_id, "status", UNPUBLISHED, "Publishing has ended.")
            self._tell(PublishEnded(stream_id=stream_id, by=by))
