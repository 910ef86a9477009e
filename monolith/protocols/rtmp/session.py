"""One connection of a publisher, as the server sees it: bytes in, events and bytes out; no sockets, no clock."""

from __future__ import annotations

from typing import Final

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp.events import Event, PublishRequested
from monolith.protocols.rtmp.limits import Limits


class SessionError(ProtocolError):
    """Ends a session. `events`: what the same bytes told before they went wrong."""

    def __init__(self, reason: str, events: tuple[Event, ...]) -> None:
        super().__init__(reason)
        self.events = events


DEFAULT_LIMITS: Final = Limits()


class ServerSession:
    """Feed `receive` with what came, then send `data_to_send`; after each answer, too.

    Timeouts, and what happens when the connection breaks, are the caller's.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        raise NotImplementedError("being written")

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """The events in what came, however it was cut. Raises SessionError, a ProtocolError, once (events that came
        before the error in the same call are in its `events`); later calls find nothing."""
        raise NotImplementedError

    def data_to_send(self) -> bytes:
        """What has to be sent now, which is then forgotten. Empty where there is nothing."""
        raise NotImplementedError

    def accept_publish(self, request: PublishRequested) -> None:
        """Tell the peer to go on (NetStream.Publish.Start). Nothing happens where it gave up meanwhile."""
        raise NotImplementedError

    def refuse(self, request: PublishRequested, code: str, description: str) -> None:
        """Tell the peer that it may not publish (an onStatus of level error), for instance
        "NetStream.Publish.BadName". What it sends on that message stream is dropped from now on."""
        raise NotImplementedError

    def close_publish(
        self, request: PublishRequested, code: str, description: str, *, error: bool = False
    ) -> None:
        """Tell the peer that an accepted publish was ended by us, for instance "NetStream.Unpublish.Success"; `error`:
        the status is one of level error. What it sends on that message stream is dropped from now on."""
        raise NotImplementedError
