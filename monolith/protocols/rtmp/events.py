"""What a session tells of a publisher, in the order in which it came. `stream_id`: the message stream, from 1."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from monolith.protocols.rtmp.amf0 import Value


class HandshakeDone(msgspec.Struct, frozen=True, gc=False):
    """The peer speaks RTMP."""


class ConnectRequested(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The peer named an application. It is answered already. `tc_url` is as the peer sent it, and may hold secrets.
    `fourcc`: codecs that an enhanced RTMP publisher knows, "*" for any; empty for others."""

    app: str
    tc_url: str
    flash_version: str
    fourcc: tuple[str, ...]

    def __repr__(self) -> str:
        return (
            f"ConnectRequested(app={self.app!r}, flash_version={self.flash_version!r}, fourcc={self.fourcc})"
        )


class PublishRequested(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The peer wants to publish. Answer with `accept_publish` or `refuse`.

    `stream_key` is a secret, as it was sent, with its query (`key?a=b`) where there is one; it is not empty. `kind`:
    "live" from those that publish live, "record" or "append" from others. Messages may follow before the answer.
    """

    stream_id: int
    app: str
    stream_key: str
    kind: str

    def __repr__(self) -> str:
        return f"PublishRequested(stream_id={self.stream_id}, app={self.app!r}, kind={self.kind!r})"


class VideoMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The body of an FLV video tag (see `monolith.protocols.flv`), never empty.

    `timestamp_ms`: decoding time by the publisher's clock. It runs on where 32 bits overflow; it goes back only where
    the publisher's does, and may be negative then.
    """

    stream_id: int
    timestamp_ms: int
    data: bytes


class AudioMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The body of an FLV audio tag, never empty. Times as in VideoMessage."""

    stream_id: int
    timestamp_ms: int
    data: bytes


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """`onMetaData`: what the publisher says of its pictures. Nothing in it is certain."""

    stream_id: int
    values: dict[str, Value]


class PublishEnded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The peer ended its publishing in order (`by`: the command that it sent). The connection lasts: the peer closes
    it, or publishes again."""

    stream_id: int
    by: str


class PlayRefused(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The peer wanted to play and was told that it cannot."""

    stream_id: int


Event: TypeAlias = (
    HandshakeDone
    | ConnectRequested
    | PublishRequested
    | VideoMessage
    | AudioMessage
    | Metadata
    | PublishEnded
    | PlayRefused
)
