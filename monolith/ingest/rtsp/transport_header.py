"""The `Transport` header of a SETUP answer (RFC 2326, 12.39): what of it may reach FFmpeg."""

from __future__ import annotations

from typing import Final

from monolith.ingest.addresses import Address

_OF_ADDRESSES: Final = ("source", "destination", "src_addr", "dest_addr")
_OF_MULTICAST: Final = ("multicast", "port", "ttl", "layers")


class MulticastError(ValueError):
    """The server wants to send to a group."""


def pinned(transport: str, peer: Address) -> str:
    """`transport` with `peer` as the only address in it: pictures come from the server that was checked, and reports
    go there. Raises MulticastError."""
    return ",".join(_pinned(specification, peer) for specification in transport.split(","))


def _pinned(specification: str, peer: Address) -> str:
    parts = [part.strip() for part in specification.split(";") if part.strip()]
    if any(_name(part) in _OF_MULTICAST for part in parts[1:]):
        raise MulticastError("the server wants to send to a multicast group")
    kept = [part for part in parts if _name(part) not in _OF_ADDRESSES]
    return ";".join([*kept, f"source={peer}"])


def _name(part: str) -> str:
    return part.partition("=")[0].strip().lower()
