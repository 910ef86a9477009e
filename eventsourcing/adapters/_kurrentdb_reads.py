"""Reads from KurrentDB that are whole, or fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from kurrentdbclient import AsyncKurrentDBClient
from kurrentdbclient import RecordedEvent as ServerEvent

from eventsourcing.adapters._kurrentdb_events import all_filter
from eventsourcing.errors import StoreUnavailableError

_ATTEMPTS: Final = 5


class WholeReads:
    """When any call fails, the driver takes another connection, and what others read by the old one ends early, as if
    there were no more. Such reads are begun again. `deadline`: seconds for each.

    Methods raise the driver's errors, StoreUnavailableError.
    """

    def __init__(self, client: AsyncKurrentDBClient, deadline: float) -> None:
        self._client = client
        self._deadline = deadline
        self.cut = False
        """Set it before the connection is closed for good: what is still read then is not whole."""

    async def stream(
        self, name: str, position: int | None, *, backwards: bool, limit: int
    ) -> Sequence[ServerEvent]:
        """Of one stream, from `position` inclusive."""

        async def read() -> Sequence[ServerEvent]:
            return await self._client.get_stream(
                name, stream_position=position, backwards=backwards, limit=limit, timeout=self._deadline
            )

        return await self._whole(read)

    async def all(
        self, position: int | None, prefixes: Sequence[str], *, backwards: bool = False, limit: int
    ) -> Sequence[ServerEvent]:
        """Of `$all`, from `position`: inclusive forwards, exclusive backwards."""

        async def read() -> Sequence[ServerEvent]:
            reading = await self._client.read_all(
                commit_position=position,
                backwards=backwards,
                limit=limit,
                timeout=self._deadline,
                **all_filter(prefixes),
            )
            async with reading as responses:
                return [event async for event in responses]

        return await self._whole(read)

    async def _whole(self, read: Callable[[], Awaitable[Sequence[ServerEvent]]]) -> Sequence[ServerEvent]:
        for _ in range(_ATTEMPTS):
            await self._client.connect()
            connection = self._client.connection_id
            found = await read()
            if self.cut:
                break
            if connection == self._client.connection_id:
                return found
        raise StoreUnavailableError("the connection to KurrentDB was closed before all was read")
