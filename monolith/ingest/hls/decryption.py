"""Segments that are encrypted as a whole: AES-128 in CBC mode with PKCS #7 padding (RFC 8216, 4.3.2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from monolith.ingest.errors import SourceError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

KEY_BYTES: Final = 16
_BLOCK: Final = 16


class DecryptedBody:
    """Reads `read`'s bytes decrypted. Raises SourceError where they are not what the key and padding say."""

    def __init__(self, read: Callable[[int], bytes], key: bytes, iv: bytes) -> None:
        self._read = read
        self._cipher = _decryptor(key, iv)
        self._held = b""
        self._received = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Some bytes, `size` at most and at least one; b"" at the end. The last block is held back until it is known to
        be the last, which has the padding."""
        while len(self._held) <= _BLOCK and not self._ended:
            self._more(size)
        usable = len(self._held) if self._ended else len(self._held) - _BLOCK
        piece = self._held[: min(size, usable)]
        self._held = self._held[len(piece) :]
        return piece

    def _more(self, size: int) -> None:
        received = self._read(max(size, _BLOCK))
        self._received += len(received)
        self._held += self._cipher.update(received)
        if not received:
            self._ended = True
            self._held = _unpadded(self._held, self._received)


def _unpadded(last: bytes, received: int) -> bytes:
    count = last[-1] if last else 0
    if received % _BLOCK or not 1 <= count <= _BLOCK or last[-count:] != bytes([count]) * count:
        raise SourceError(
            "a segment could not be decrypted: the key of the playlist does not fit, or it is damaged"
        )
    return last[:-count]


def _decryptor(key: bytes, iv: bytes) -> CipherContext:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # 9 MB that few sources need

    return Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
