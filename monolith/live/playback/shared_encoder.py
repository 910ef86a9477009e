"""An encoder process as the program sees it: packets of a publisher in, the same pictures encoded once, for all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final

import msgspec

from monolith.live.feeds import LiveFeed
from monolith.live.packets import LivePacket, VideoFormat
from monolith.live.playback.messages import (
    Begin,
    Decode,
    Encoded,
    Failed,
    Found,
    FromEncoder,
    Keyframe,
    Started,
    Taken,
    ToEncoder,
)
from monolith.processes import ChildDiedError, ChildProcess

_MODULE: Final = "monolith.live.playback.encoder"
_START_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 5.0
"""A process that works off no packet for so long hangs."""
_STOP_SECONDS: Final = 2.0
_DAMAGED_KEYFRAMES: Final = 3
_PACKETS_IN_VAIN: Final = 300
"""So many in a row of which no picture comes, and none ever will."""
_IN_FLIGHT: Final = 4
_WAITING_FOUND: Final = 64
KEYFRAME_SECONDS: Final = 0.5
"""At most one keyframe is asked for in so many seconds: each costs all viewers as much as many other pictures."""
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(FromEncoder)

logger = logging.getLogger(__name__)


class EncodingError(Exception):
    """The encoder process failed; why is for the log."""


class SharedEncoder:
    """Encodes one connection of a publisher. `output`: what viewers read; it ends when the connection does, or with the
    reason of a failure. `delay`: seconds by which pictures wait, so that boxes can be there."""

    def __init__(self, feed: LiveFeed, begin: Begin, *, delay: float = 0.0) -> None:
        self._feed = feed
        self._begin = begin
        self._delay = delay
        self._format = VideoFormat(begin.codec)
        self._window = asyncio.Semaphore(_IN_FLIGHT)
        self._commands: asyncio.Queue[Keyframe | Found] = asyncio.Queue(_WAITING_FOUND)
        self._keyframe_asked = float("-inf")
        self._sending = asyncio.Lock()
        self._in_work: deque[bool] = deque()
        self._damaged_keyframes = self._in_vain = 0
        self._task: asyncio.Task[None] | None = None
        self.output = LiveFeed(feed.video_id)
        self.pid: int | None = None
        self.late = 0
        """Pictures that were left out because the process was behind."""
        self.damaged = 0
        """Packets that could not be decoded."""

    @property
    def opened_at(self) -> float:
        """When the connection began whose pictures are encoded, by the monotonic clock."""
        return self._feed.opened_at

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"encoder of {self._feed.video_id}")

    async def stop(self) -> None:
        """End the process. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.output.end("the encoder was stopped")

    def ask_keyframe(self) -> bool:
        """Whether the next picture will be one; not where one was asked for a moment ago."""
        now = time.monotonic()
        if now - self._keyframe_asked < KEYFRAME_SECONDS or self._commands.full():
            return False
        self._keyframe_asked = now
        self._commands.put_nowait(Keyframe())
        return True

    def show(self, found: Found) -> None:
        """Draw it from now on. Left out where too much waits."""
        if not self._commands.full():
            self._commands.put_nowait(found)

    async def _run(self) -> None:
        reason = "the encoder was stopped"
        try:
            await self._encode()
            reason = self._feed.reason
        except* (ChildDiedError, EncodingError, OSError, TimeoutError, msgspec.DecodeError) as errors:
            reason = "; ".join(str(error) or type(error).__name__ for error in errors.exceptions)
            logger.warning("live pictures of video %s could not be encoded: %s", self._feed.video_id, reason)
        except* Exception:
            logger.exception("the encoder of video %s was lost", self._feed.video_id)
        finally:
            self.output.end(reason)

    async def _encode(self) -> None:
        child = await ChildProcess.start("live encoder", _MODULE)
        self.pid = child.pid
        child.log_fields = {"video_id": self._feed.video_id}
        try:
            async with asyncio.timeout(_START_SECONDS):
                if not isinstance(await _hear(child), Started):
                    raise EncodingError("the encoder process did not say that it started")
            await self._say(child, self._begin)
            await self._work(child)
        finally:
            self.pid = None
            await child.stop(_STOP_SECONDS)

    async def _work(self, child: ChildProcess) -> None:
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(self._receive(child), name="encoded pictures"),
                tasks.create_task(self._tell(child), name="boxes for an encoder"),
            ]
            await self._hand_over(child)
            for _ in range(_IN_FLIGHT):
                await self._room()
            for task in others:
                task.cancel()

    async def _hand_over(self, child: ChildProcess) -> None:
        async with self._feed.read() as reader:
            async for packet in reader:
                await asyncio.sleep(self._early(packet))
                await self._room()
                self._in_work.append(packet.keyframe)
                await self._say(child, Decode(packet))

    def _early(self, packet: LivePacket) -> float:
        """Seconds until the packet's turn."""
        return min(self._delay, max(0.0, packet.arrived + self._delay - time.time()))

    async def _room(self) -> None:
        """Until the process has not too many packets to work off. Raises EncodingError."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._window.acquire()
        except TimeoutError as error:
            raise EncodingError(f"the encoder worked off nothing for {_ANSWER_SECONDS:g} s") from error

    async def _receive(self, child: ChildProcess) -> None:
        while True:
            match message := await _hear(child):
                case Encoded():
                    self._damaged_keyframes = self._in_vain = 0
                    self.output.publish(self._packet(message))
                case Taken():
                    self._count(message)
                    self._window.release()
                case Failed():
                    raise EncodingError(message.reason)
                case Started():
                    raise EncodingError("the encoder process started twice")

    def _count(self, taken: Taken) -> None:
        """Raises EncodingError where nothing that comes can be decoded."""
        keyframe, damaged = self._in_work.popleft(), bool(taken.damage)
        self.late += taken.late
        self.damaged += damaged
        self._in_vain = 0 if taken.late else self._in_vain + 1
        self._damaged_keyframes += keyframe and damaged
        if self._damaged_keyframes >= _DAMAGED_KEYFRAMES or self._in_vain >= _PACKETS_IN_VAIN:
            why = taken.damage or f"{self._in_vain} packets hold no picture"
            raise EncodingError(f"nothing that comes can be decoded: {why}")

    def _packet(self, picture: Encoded) -> LivePacket:
        return LivePacket(
            self._format, picture.data, picture.pts, picture.pts, picture.keyframe, picture.arrived
        )

    async def _tell(self, child: ChildProcess) -> None:
        while True:
            await self._say(child, await self._commands.get())

    async def _say(self, child: ChildProcess, message: ToEncoder) -> None:
        async with self._sending, asyncio.timeout(_ANSWER_SECONDS):
            await child.send(_ENCODE(message))


async def _hear(child: ChildProcess) -> FromEncoder:
    message: FromEncoder = _DECODER.decode(await child.receive())
    return message
