"""Peer connections by the program's rules. Used by publishers (WHIP) and viewers (WHEP)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError, OperationError

from monolith.live.webrtc.ice import IceOptions, RuledConnection
from monolith.live.webrtc.sdp import NoCommonCodecError, OfferError

_CLOSE_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


def new_peer() -> RTCPeerConnection:
    """Close it by `close_peer`. STUN and TURN servers are not aiortc's business (`answer`)."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))


async def take_offer(peer: RTCPeerConnection, offer: str) -> None:
    """`offer`: what `check_offer` gave. Tracks can be added now. Raises OfferError, NoCommonCodecError."""
    try:
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    except OperationError as error:
        raise NoCommonCodecError(
            "a part of the offer has no codec that is taken: video VP8 or H.264, audio Opus or G.711"
        ) from error
    except (ValueError, AssertionError, InvalidStateError) as error:
        raise OfferError(f"the offer cannot be taken: {error}") from error


async def answer(peer: RTCPeerConnection, ice: IceOptions) -> tuple[str, RuledConnection]:
    """The answer to the offer taken, with all of our candidates; and the way to the peer.

    Raises OfferError, NoAddressError.
    """
    transports = [one.receiver.transport.transport for one in peer.getTransceivers()]
    if peer.sctp is not None:
        transports.append(peer.sctp.transport.transport)
    connections = {id(one.iceGatherer): RuledConnection.rule(one.iceGatherer, ice) for one in transports}
    try:
        await peer.setLocalDescription(await peer.createAnswer())
    except (ValueError, AssertionError) as error:
        raise OfferError(f"no answer fits the offer: {error}") from error
    return peer.localDescription.sdp, next(iter(connections.values()))


async def close_peer(peer: RTCPeerConnection) -> None:
    """Never raises, and ends in time."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await peer.close()
    except TimeoutError:
        logger.warning("a WebRTC connection was not closed within %g s", _CLOSE_SECONDS)
    except Exception:
        logger.exception("a WebRTC connection could not be closed")


async def add_candidates(peer: RTCPeerConnection, candidates: Sequence[RTCIceCandidate]) -> None:
    """Trickled ones, of a `Fragment`."""
    for candidate in candidates:
        with contextlib.suppress(ValueError):
            await peer.addIceCandidate(candidate)
