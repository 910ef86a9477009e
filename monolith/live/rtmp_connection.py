"""One RTMP connection: moves bytes between its socket and a `ServerSession`, and pictures to a live feed.

Rules:
- It has to publish, with a key that is right, within `handshake_seconds` of its beginning, or of the end of its last
  publish; afterwards it may not be silent for `idle_seconds`, nor send more than `max_bitrate` or `MOST_MESSAGES` for
  long. Many small messages are gone through a part at a time, so that others have their turn.
- While a key is looked up, or messages wait, nothing is read, so that what waits stays small.
- FCUnpublish, deleteStream and closeStream end a publish in order; a connection that breaks, or is cut off, may come
  again. One that ended may be followed by another on the same connection.
- Who is refused or sent away is told why, and has a moment to close the connection itself.
- The feed never waits for anyone, so no publisher is held up by those who read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import Final, Protocol

from eventsourcing.errors import EventStoreError
from monolith.access.rates import client_of
from monolith.application.push_sources import PublishRefusedError, PushSources, UnknownSecretError
from monolith.live.feeds import FeedBusyError, LiveFeed
from monolith.live.rtmp_publish import Credit, Publish
from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp.events import Event, PublishEnded, PublishRequested, VideoMessage
from monolith.protocols.rtmp.session import ServerSession, SessionError
from monolith.waiting import first_of

APP: Final = "live"
MOST_MESSAGES: Final = 1000
"""A second. 120 pictures and their sound are 300."""
_LOOK_UP_SECONDS: Final = 10.0
_FAREWELL_SECONDS: Final = 1.0
_MOST_UNSENT: Final = 256 << 10
_MOST_TO_SERVE: Final = 2
"""Publishes whose key is not looked up yet, all but the last of them over."""
_BAD_NAME: Final = "NetStream.Publish.BadName"
_DENIED: Final = "NetStream.Publish.Denied"
_FAILED: Final = "NetStream.Publish.Failed"
_ENDED: Final = "NetStream.Unpublish.Success"

logger = logging.getLogger(__name__)


class Entrance(Protocol):
    """Who lets connections in (`monolith.live.rtmp_server`)."""

    def admit(self, connection: RtmpConnection) -> str:
        """Empty, or why not, for the log."""
        ...

    def left(self, connection: RtmpConnection, reason: str) -> None:
        """It is over. `reason`: in words; empty where all went in order."""
        ...

    def refused(self, connection: RtmpConnection, why: str, reason: str) -> None:
        """A publish was refused; `why`: one of a few words for the metrics."""
        ...

    def wrong_key(self, connection: RtmpConnection) -> float:
        """It showed one; 0.0, or the seconds that its address is to wait."""
        ...

    def count(self, received: int) -> None:
        """Bytes that came."""
        ...


class RtmpConnection(asyncio.Protocol):
    """`max_bitrate`: kilobits a second. `address`: of the peer, without its port."""

    def __init__(
        self,
        entrance: Entrance,
        sources: PushSources,
        *,
        handshake_seconds: float,
        idle_seconds: float,
        max_bitrate: int,
    ) -> None:
        self._entrance = entrance
        self._sources = sources
        self._handshake_seconds = handshake_seconds
        self._idle_seconds = idle_seconds
        self._max_bitrate = max_bitrate
        self._session = ServerSession()
        self._loop = asyncio.get_running_loop()
        self._since = self._heard = self._loop.time()
        self._bytes = Credit(max_bitrate * 1000 / 8, self._since)
        self._messages = Credit(MOST_MESSAGES, self._since)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._publish: Publish | None = None
        self._to_serve: deque[Publish] = deque()
        self._looking_up = False
        self._going_on = False
        self._closing = False
        self._reason = ""
        self.address = ""
        self.client = ""

    @property
    def publishing(self) -> bool:
        return self._feed is not None

    @property
    def _feed(self) -> LiveFeed | None:
        return None if self._publish is None else self._publish.feed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self.client = client_of(self.address)
        if reason := self._entrance.admit(self):
            self._cut(reason)
            return
        transport.set_write_buffer_limits(high=_MOST_UNSENT)
        peer_socket = transport.get_extra_info("socket")
        peer_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_UNSENT)  # answers are small

    def data_received(self, data: bytes) -> None:
        self._entrance.count(len(data))
        if not self._closing:
            self._go_through(data)

    def pause_writing(self) -> None:
        self._cut("it does not read what it is told")
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._break_off()
        went = self._feed is not None and not self._feed.ended
        reason = self._reason or ("it went away while it published" if went else "")
        self._entrance.left(self, reason)

    def check(self, now: float) -> None:
        """To be called about once a second. `now`: of the loop's clock."""
        if self._closing:
            return
        if self._feed is None and now - self._since > self._handshake_seconds:
            self._cut(f"it did not publish within {self._handshake_seconds:g} s")
        elif self._feed is not None and now - self._heard > self._idle_seconds:
            self._cut(f"it sent nothing for {self._idle_seconds:g} s")

    def _silent_seconds(self) -> float:
        return self._loop.time() - self._heard

    async def end(self) -> None:
        """Close it, and wait until what it published is closed, too."""
        self._cut(self._reason)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _go_through(self, data: bytes) -> None:
        """What is to be gone through now; the rest when others had their turn."""
        before = self._session.messages
        try:
            events = self._session.receive(data)
        except SessionError as error:
            self._take(error.events)
            self._cut(f"it does not keep to RTMP: {error}")
            return
        self._take(events)
        self._heard = self._loop.time()
        if not self._bytes.take(len(data), self._heard):
            self._cut(f"it sent more than {self._max_bitrate} kbit/s (VIDEO_ANALYSIS_RTMP_MAX_BITRATE)")
        if not self._messages.take(self._session.messages - before, self._heard):
            self._cut(f"it sent more than {MOST_MESSAGES} messages a second")
        if self._session.more and not self._going_on:
            self._stop_reading()
            self._going_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        if not self._closing:
            self._go_through(b"")
            self._resume()

    def _take(self, events: list[Event] | tuple[Event, ...]) -> None:
        for event in events:
            match event:
                case VideoMessage():
                    self._video(event)
                case PublishRequested():
                    self._asked(event)
                case PublishEnded():
                    self._ended(event)
                case _:
                    pass  # answered by the session, or sound, or what nobody asked for
        self._flush()

    def _asked(self, request: PublishRequested) -> None:
        running = self._task is not None and not self._task.done()
        over = self._publish is None or self._publish.over.is_set()
        if running and (not over or len(self._to_serve) >= _MOST_TO_SERVE):
            self._refuse(request, _BAD_NAME, "busy", "one connection publishes one video at a time")
            return
        self._publish = Publish(request)
        self._to_serve.append(self._publish)
        self._looking_up = True
        self._stop_reading()
        if not running:
            self._task = self._loop.create_task(self._serve(), name=f"RTMP from {self.address}")

    def _ended(self, ended: PublishEnded) -> None:
        publish = self._publish
        if publish is not None and ended.stream_id == publish.request.stream_id:
            publish.end()

    def _video(self, message: VideoMessage) -> None:
        publish = self._publish
        if publish is None or message.stream_id != publish.request.stream_id or publish.over.is_set():
            return
        if publish.feed is None:
            publish.early.append(message)  # few: little is read meanwhile
        else:
            self._hand_on(publish, publish.feed, message)

    def _hand_on(self, publish: Publish, feed: LiveFeed, message: VideoMessage) -> bool:
        """Whether it is video; the publish is over where it is not."""
        try:
            publish.hand_on(feed, message)
        except ProtocolError as error:
            self._reason = f"what it sends is no video for this program: {error}"
            self._session.close_publish(publish.request, _FAILED, self._reason, error=True)
            self._leave()
            publish.over.set()
            return False
        return True

    async def _serve(self) -> None:
        """One publish after another."""
        while self._to_serve and not self._closing:
            publish = self._to_serve.popleft()
            await self._served(publish, publish.request)

    async def _served(self, publish: Publish, request: PublishRequested) -> None:
        """From the request to its end; every failure of it is told, and ends the connection."""
        try:
            video_id = await self._authorized(request)
            async with self._sources.publisher(video_id) as feed:
                await self._publish_to(feed, publish)
        except _RefusedError as error:
            self._send_away(request, error.code, error.why, str(error))
        except UnknownSecretError as error:
            wait = self._entrance.wrong_key(self)
            reason = f"too many wrong keys came from your address; try again in {wait:.0f} s"
            self._send_away(request, _DENIED, "key", reason if wait else str(error))
        except PublishRefusedError as error:
            self._send_away(request, _DENIED, "key", str(error))
        except FeedBusyError as error:
            self._send_away(request, _BAD_NAME, "busy", str(error))
        except (EventStoreError, OSError, TimeoutError) as error:
            logger.warning("the key of an RTMP publisher cannot be looked up: %r", error)
            self._send_away(request, _FAILED, "failed", "the program cannot look the key up now; try again")
        except Exception:
            logger.exception("an RTMP connection failed")
            self._cut("the program failed")
        finally:
            publish.feed, publish.early, self._since = None, [], self._loop.time()
            self._looked_up()

    async def _authorized(self, request: PublishRequested) -> str:
        """The video to publish to. Raises PublishRefusedError and what `PushSources.authorize` raises."""
        if request.app.strip("/") != APP:
            raise _RefusedError(
                _BAD_NAME, "application", f"publish to the application {APP!r}, as the endpoint says"
            )
        key = request.stream_key.partition("?")[0]
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            return await self._sources.authorize("rtmp", key)

    async def _publish_to(self, feed: LiveFeed, publish: Publish) -> None:
        """Until either side ends it. It may have ended, or been cut off, while its key was looked up."""
        publish.feed, feed.silent_seconds = feed, self._silent_seconds
        self._session.accept_publish(publish.request)
        logger.info("video %s is published by RTMP from %s", feed.video_id, self.address)
        early, publish.early = publish.early, []
        video = all(self._hand_on(publish, feed, message) for message in early)
        if publish.in_order and video:
            feed.end()
        self._flush()
        self._looked_up()
        await first_of(publish.over, feed.dismissed)
        if feed.dismissal and not self._closing:
            self._session.close_publish(publish.request, _ENDED, feed.dismissal)
            self._reason = feed.dismissal
            self._leave()

    def _send_away(self, request: PublishRequested, code: str, why: str, reason: str) -> None:
        self._refuse(request, code, why, reason)
        self._reason = reason
        self._leave()

    def _refuse(self, request: PublishRequested, code: str, why: str, reason: str) -> None:
        self._entrance.refused(self, why, reason)
        self._session.refuse(request, code, reason)
        self._flush()

    def _leave(self) -> None:
        """What was said goes out, if the peer reads it; the peer may close first."""
        self._flush()
        self._closing = True
        if self._transport is not None:
            self._loop.call_later(_FAREWELL_SECONDS, self._transport.close)
            self._loop.call_later(2 * _FAREWELL_SECONDS, self._transport.abort)

    def _cut(self, reason: str) -> None:
        """Close at once."""
        if not self._closing:
            self._reason = self._reason or reason
            self._flush()
            self._closing = True
        self._break_off()
        if self._transport is not None:
            self._transport.close()
            self._loop.call_later(_FAREWELL_SECONDS, self._transport.abort)  # it may not read what is left

    def _flush(self) -> None:
        data = self._session.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _break_off(self) -> None:
        """What is published ends, and not in order."""
        if self._publish is not None:
            self._publish.over.set()

    def _looked_up(self) -> None:
        self._looking_up = bool(self._to_serve)
        self._resume()

    def _stop_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        waits = self._looking_up or self._session.more
        if self._transport is not None and not self._transport.is_closing() and not waits:
            self._transport.resume_reading()


class _RefusedError(Exception):
    """`code`: for the publisher; `why`: for the metrics."""

    def __init__(self, code: str, why: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.why = why
