"""A decoder process as its parent sees it: typed messages, deadlines, death."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import msgspec

from monolith.application.log_context import LogFields
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.errors import DecoderDiedError
from monolith.ingest.messages import FromDecoder, Started, ToDecoder
from monolith.processes import ChildDiedError, ChildProcess

_MODULE: Final = "monolith.ingest.decoder"
_END_SECONDS: Final = 5.0
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(FromDecoder)


class DecoderProcess:
    """One decoder process. `kept_path`: the sequential source that it has open; `waits_for_us`: it may be silent,
    since it has no slot to write to; `idle_since`: loop time."""

    def __init__(self, child: ChildProcess, silence_timeout: float) -> None:
        self._child = child
        self._silence_timeout = silence_timeout
        self._receiving: asyncio.Task[bytes] | None = None
        self._killed = False
        self.name = child.name
        self.kept_path: str | None = None
        self.waits_for_us = False
        self.idle_since = 0.0

    @classmethod
    async def start(
        cls, name: str, slots: FrameSlots, *, start_timeout: float, silence_timeout: float
    ) -> DecoderProcess:
        """Start one and wait until it is up. Raises DecoderDiedError."""
        try:
            child = await ChildProcess.start(name, _MODULE, _arguments(slots), pass_fds=(slots.fd,))
        except OSError as error:
            raise DecoderDiedError(f"no decoder process could be started: {error}") from error
        process = cls(child, start_timeout)
        try:
            if not isinstance(await process.receive(), Started):
                raise process.broken("did not say that it had started")
        except BaseException:
            process.kill()
            await process.stop()
            raise
        process._silence_timeout = silence_timeout
        return process

    @property
    def pid(self) -> int:
        return self._child.pid

    def work_for(self, fields: LogFields) -> None:
        """Its log lines are about `fields` from now on."""
        self._child.log_fields = fields

    @property
    def dead(self) -> bool:
        return self._killed or not self._child.alive

    async def send(self, message: ToDecoder) -> None:
        """Raises DecoderDiedError."""
        try:
            async with asyncio.timeout(self._silence_timeout):
                await self._child.send(_ENCODER.encode(message))
        except ChildDiedError as error:
            self.kill()
            raise DecoderDiedError(str(error)) from error
        except TimeoutError as error:
            raise self.broken("takes no messages") from error

    async def receive(self) -> FromDecoder:
        """The next message. Safe to cancel: no message is lost. Raises DecoderDiedError.

        Kills the process when it has been silent for too long though it does not wait for us.
        """
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._child.receive(), name=f"message from {self.name}")
        receiving = self._receiving
        while not receiving.done():
            was_waiting = self.waits_for_us
            await asyncio.wait({receiving}, timeout=self._silence_timeout)
            if not receiving.done() and not was_waiting and not self.waits_for_us:
                raise self.broken(f"said nothing for {self._silence_timeout:g} s")
        received, self._receiving = receiving, None
        return self._decoded(received)

    def _decoded(self, received: asyncio.Task[bytes]) -> FromDecoder:
        try:
            message: FromDecoder = _DECODER.decode(received.result())
            return message
        except ChildDiedError as error:
            self.kill()
            raise DecoderDiedError(str(error)) from error
        except msgspec.DecodeError as error:
            raise self.broken(f"sent what is no message ({error})") from error

    def broken(self, how: str) -> DecoderDiedError:
        """Kill the process that misbehaved, and the error to raise."""
        self.kill()
        return DecoderDiedError(f"{self.name} (pid {self.pid}) {how}: killed")

    def kill(self) -> None:
        self._killed = True
        self._child.kill()

    async def stop(self) -> None:
        """End the process: by closing its link, or by force. Idempotent."""
        if self._killed:
            self._child.kill()
        await self._child.stop()
        await self._end_receiving()

    async def _end_receiving(self) -> None:
        """The link is at its end, so the task that reads it ends too; whoever waits for it sees why."""
        task, self._receiving = self._receiving, None
        if task is None:
            return
        await asyncio.wait({task}, timeout=_END_SECONDS)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ChildDiedError):
            await task


def _arguments(slots: FrameSlots) -> tuple[str, ...]:
    return str(slots.fd), str(slots.count), str(slots.slot_bytes)
