"""The child's end of the link to its parent process: length-prefixed messages over a socket pair, blocking.

A child never outlives its parent: the kernel kills it when the parent dies (`PR_SET_PDEATHSIG`), and the end of the
link means stop.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
LENGTH: Final = struct.Struct("!I")
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024


class ParentGoneError(Exception):
    """The parent closed the link, or died."""


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent ends, and end now if that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise ParentGoneError(f"parent {parent_pid} is gone")


class ParentLink:
    """Blocking messages to and from the parent. One thread may send while another receives."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)

    def send(self, message: bytes) -> None:
        """Raises ParentGoneError."""
        try:
            self._socket.sendall(LENGTH.pack(len(message)) + message)
        except OSError as error:
            raise ParentGoneError(str(error)) from error

    def receive(self) -> bytes:
        """The next message. Raises ParentGoneError at the end of the link."""
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        if length > MAX_MESSAGE_BYTES:
            raise ParentGoneError(f"message of {length} bytes is beyond {MAX_MESSAGE_BYTES}")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            try:
                piece = self._socket.recv(count - len(received))
            except OSError as error:
                raise ParentGoneError(str(error)) from error
            if not piece:
                raise ParentGoneError("the parent closed the link")
            received += piece
        return bytes(received)
