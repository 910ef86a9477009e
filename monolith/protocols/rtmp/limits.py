"""How much a publisher may ask of the program. Sizes are bytes."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bounds of one connection. More than they allow is a ProtocolError; nothing is allocated before it has come.

    `max_message_size`: one video or audio message, once a publish was asked for; everything else is bounded by
    `max_command_size`. `max_held_size`: all messages together that have begun and not ended. `min_chunk_size`: smaller
    chunks would cost more work than pictures. A large chunk costs nothing, since a message bounds it: sizes above
    `max_chunk_size`, which no message exceeds, mean the same (RTMP 1.0, section 5.4.1).
    `max_chunk_streams`, `max_streams`: chunk streams and message streams at a time. `window_size`: bytes after which
    an Acknowledgement is sent, until the publisher sets another. `max_unsent_size`: answers that nobody fetched.

    Small messages cost more work than their bytes tell, so work is counted in messages: media and control are one each,
    commands and data one more for each `command_unit` bytes. `max_at_once`: about so many are gone through at a time;
    `max_parts`: tags in an aggregate. Until a publish is accepted the whole connection has `max_unpublished_size` bytes
    and `max_unpublished_messages`: as much as may come with a request before reading can be stopped.
    """

    max_message_size: int = 8 << 20
    max_command_size: int = 64 << 10
    max_held_size: int = 16 << 20
    min_chunk_size: int = 64
    max_chunk_size: int = 0xFFFFFF
    max_chunk_streams: int = 64
    max_streams: int = 8
    window_size: int = 2_500_000
    max_string_length: int = 8192
    max_depth: int = 16
    max_unsent_size: int = 256 << 10
    command_unit: int = 64
    max_at_once: int = 256
    max_parts: int = 1024
    max_unpublished_size: int = 512 << 10
    max_unpublished_messages: int = 1024
