"""An encoder process as its parent sees it: typed messages, deadlines, death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from monolith.exports.errors import EncoderError, FramesExpiredError
from monolith.exports.messages import Encoded, Failed, Finished, FromEncoder, Started, ToEncoder
from monolith.processes import ChildDiedError, ChildProcess

_MODULE: Final = "monolith.exports.encoder"
_START_SECONDS: Final = 60.0
_SILENCE_SECONDS: Final = 120.0
_FINISH_SECONDS: Final = 900.0
"""The index is put before everything else at the end: the whole file is read and written once more."""
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(FromEncoder)


class EncoderProcess:
    """One encoder process, for one file. Methods raise EncoderError, FramesExpiredError."""

    def __init__(self, child: ChildProcess) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        return self._child.pid

    async def send(self, message: ToEncoder) -> None:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._child.send(_ENCODE(message))
        except ChildDiedError as error:
            raise await self._death() from error
        except TimeoutError as error:
            raise EncoderError("the encoder takes no messages") from error

    async def encoded(self) -> Encoded:
        """The answer to Append."""
        message = await self._receive(_SILENCE_SECONDS)
        assert isinstance(message, Encoded)
        return message

    async def finished(self) -> Finished:
        """The answer to Finish."""
        message = await self._receive(_FINISH_SECONDS)
        assert isinstance(message, Finished)
        return message

    async def started(self) -> None:
        assert isinstance(await self._receive(_START_SECONDS), Started)

    async def _receive(self, seconds: float) -> FromEncoder:
        try:
            async with asyncio.timeout(seconds):
                message: FromEncoder = _DECODER.decode(await self._child.receive())
        except ChildDiedError as error:
            raise EncoderError(f"the encoder ended before the video was whole: {error}") from error
        except TimeoutError as error:
            raise EncoderError(f"the encoder said nothing for {seconds:g} s") from error
        except msgspec.DecodeError as error:
            raise EncoderError(f"the encoder sent what is no message ({error})") from error
        if isinstance(message, Failed):
            raise FramesExpiredError if message.gone else EncoderError(message.reason)
        return message

    async def _death(self) -> EncoderError | FramesExpiredError:
        """Why the link broke: what the process last said, or how it ended."""
        try:
            while True:
                await self._receive(_SILENCE_SECONDS)
        except (EncoderError, FramesExpiredError) as error:
            return error


@asynccontextmanager
async def encoder_process(name: str) -> AsyncIterator[EncoderProcess]:
    """A process that is up; leaving the context ends it, by force where the work was not finished.

    Raises EncoderError when none can be started.
    """
    try:
        child = await ChildProcess.start(name, _MODULE)
    except OSError as error:
        raise EncoderError(f"no encoder process could be started: {error}") from error
    process = EncoderProcess(child)
    try:
        await process.started()
        yield process
    except BaseException:
        child.kill()
        raise
    finally:
        await child.stop()
