"""Ways on which one viewer's messages leave: the data channel, and server-sent events.

None of them is waited for. What one cannot take is left out of it, and counted by who sends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from aiortc import RTCDataChannel

_MOST_BUFFERED: Final = 256 << 10
"""Bytes that may wait on a data channel."""
_MOST_WAITING: Final = 256
"""Messages that may wait for a reader of server-sent events."""


class Outlet(Protocol):
    def send(self, message: bytes) -> bool:
        """Whether it was taken. `message`: a JSON object."""
        ...


class ChannelOutlet:
    """A data channel that is open, or takes nothing."""

    def __init__(self, channel: RTCDataChannel) -> None:
        self._channel = channel

    def send(self, message: bytes) -> bool:
        if self._channel.readyState != "open":
            return True
        if self._channel.bufferedAmount > _MOST_BUFFERED:
            return False
        self._channel.send(message.decode())
        return True


class WaitingOutlet:
    """Messages wait until they are fetched, by one task."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def send(self, message: bytes) -> bool:
        if len(self._messages) >= _MOST_WAITING:
            return False
        self._messages.append(message)
        self._news.set()
        return True

    def end(self) -> None:
        """Nothing comes after what waits."""
        self._ended = True
        self._news.set()

    async def next(self) -> bytes | None:
        """The next message; None at the end."""
        while not self._messages:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()
