"""The child's end of the link to its parent process: length-prefixed messages over a socket pair, blocking.

A child never outlives its parent: the kernel kills it when the parent dies (`PR_SET_PDEATHSIG`), and the end of the
link means stop.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import struct
import sys
from types import TracebackType
from typing import Final

import msgspec

_PR_SET_PDEATHSIG: Final = 1
LENGTH: Final = struct.Struct("!I")
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024


_LONGEST_MESSAGE: Final = 4_000
_LONGEST_EXCEPTION: Final = 16_000
"""Characters; a line of the log must fit into what the parent reads as one."""


class LogLine(msgspec.Struct, frozen=True, tag="log", omit_defaults=True):
    """A log record of a child, one line of its standard error. `level`: as in `logging`; `created`: Unix seconds."""

    level: int
    logger: str
    message: str
    created: float
    exception: str = ""


LOG_LINE_START: Final = b'{"type":"log",'


class ParentGoneError(Exception):
    """The parent closed the link, or died."""


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent ends, and end now if that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise ParentGoneError(f"parent {parent_pid} is gone")


class _LineFormatter(logging.Formatter):
    """Records as `LogLine`s."""

    def format(self, record: logging.LogRecord) -> str:
        exception = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        line = LogLine(
            level=record.levelno,
            logger=record.name,
            message=_encodable(record.getMessage()[:_LONGEST_MESSAGE]),
            created=record.created,
            exception=_encodable(exception[-_LONGEST_EXCEPTION:]),
        )
        return msgspec.json.encode(line).decode()


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def log_to_parent() -> None:
    """From now on this child's log, warnings and last exception go to its parent's log, as what they are."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_end


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("monolith.child").error(
        "ended by %s: %s", kind.__name__, error, exc_info=(kind, error, trace)
    )


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
