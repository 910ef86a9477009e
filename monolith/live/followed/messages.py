"""From the decoder process of a live source to the program, over the program's own socket, for those who watch.

The decoder says its token. Then messages come from it, each in MessagePack behind its length (four bytes, the highest
first): `Begun` with the first packet of the source, `Pictures` as long as somebody watches, `Ended` at last. The
program says single bytes: `WATCHED` and `UNWATCHED`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from monolith.live.packets import LivePacket

WATCHED: Final = b"\1"
UNWATCHED: Final = b"\0"


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The source gives packets."""


class Pictures(msgspec.Struct, frozen=True, tag="pictures"):
    """Packets in their order. `newest_group`: they are the newest group of pictures as far as it is kept, said once
    after each `WATCHED`; `group_seconds`: between the newest two keyframes, where that is known then; `dropped`:
    packets that were left out since the message before, because the program was too slow for them."""

    packets: tuple[LivePacket, ...]
    newest_group: bool = False
    group_seconds: float | None = None
    dropped: int = 0


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """Nothing more comes of this connection. `reason`: why it broke off; empty where the source came to its end."""

    reason: str


FromSource: TypeAlias = Begun | Pictures | Ended
