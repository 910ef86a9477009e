"""What a peer can do wrong."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow, or more than the limits allow. The text says what, and what
    would be right; it holds no secrets."""


class UnsupportedError(ProtocolError):
    """What came is allowed by its format, but is not among what this program reads (a codec, an encryption)."""
