"""The handshake of RTMP 1.0, section 5.2, from the server's side.

C0 (1 byte, the version), C1 and C2 (1,536 bytes each) come; S0, S1 and S2 are sent when C1 is there. S1 has the version
0, which is the simple handshake: publishers that sent a digest in C1 (FFmpeg, Flash) do without when they see it.
"""

from __future__ import annotations

import secrets
from typing import Final

from monolith.protocols.errors import ProtocolError, UnsupportedError

VERSION: Final = 3
SIZE: Final = 1536
_ENCRYPTED: Final = frozenset({6, 8, 9})


class ServerHandshake:
    """Bytes in, the answer out; it holds no more than C0 and C1."""

    def __init__(self) -> None:
        self._first = b""
        self._missing = 1 + 2 * SIZE

    @property
    def done(self) -> bool:
        return self._missing == 0

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """What is to be sent, and what lies behind the handshake in `data`. Raises ProtocolError where the first byte
        is not RTMP's."""
        if not self._first and data:
            _check(data[0])
        taken = data[: self._missing]
        self._missing -= len(taken)
        return self._answer(taken), data[len(taken) :]

    def _answer(self, taken: bytes) -> bytes:
        """S0, S1 and S2 when C1 has just become complete."""
        if len(self._first) == 1 + SIZE:
            return b""
        self._first = (self._first + taken)[: 1 + SIZE]
        if len(self._first) < 1 + SIZE:
            return b""
        s1 = bytes(8) + secrets.token_bytes(SIZE - 8)
        return bytes([VERSION]) + s1 + self._first[1:]


def _check(version: int) -> None:
    if version in _ENCRYPTED:
        raise UnsupportedError(f"encrypted RTMP (version {version}) is not supported; publish to rtmp://")
    if version != VERSION:
        raise ProtocolError(f"no RTMP: the first byte is 0x{version:02x}, and must be 0x{VERSION:02x}")
