"""Child processes of this program: started without fork, linked by a socket pair, never outliving the parent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from typing import Final

import msgspec

from monolith.application.log_context import LogFields
from monolith.child import LENGTH, LOG_LINE_START, MAX_MESSAGE_BYTES, LogLine

_STDERR_LINES_KEPT: Final = 50
_END_SECONDS: Final = 5.0
_STDERR_LINE_BYTES: Final = 64 * 1024
_LAUNCH: Final = """
trap '' INT TERM HUP
OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
export OPENBLAS_NUM_THREADS OMP_NUM_THREADS
exec "$@"
"""
"""What the shell does that becomes the child, about a millisecond after its start. Not done here before the start:
libuv, which starts our children under uvloop, gives them default signals. Not in the child: Python and its imports
take too long, and the thread pools are made by the import of numpy."""

logger = logging.getLogger(__name__)


class ChildDiedError(Exception):
    """The child process ended, or its link broke, before it answered."""


class ChildProcess:
    """A Python module running as a child process, and the parent's end of its link.

    The module is started as `python -m MODULE LINK_FD PARENT_PID ARGUMENTS…`. It ignores SIGINT, SIGTERM and SIGHUP,
    which may go to the whole process group (Ctrl-C, a service manager): it ends with its link, with its parent, or by
    SIGKILL. The numeric libraries' thread pools are off: the processes are the parallelism.
    Its standard error goes to the log, line by line (a `LogLine` as what it is); the last lines are kept for
    `describe_end`.
    """

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.name = name
        self._process = process
        self._reader = reader
        self._writer = writer
        self._last_lines: deque[str] = deque(maxlen=_STDERR_LINES_KEPT)
        self._announced: int | None = None
        self.log_fields: LogFields = {}
        """What the child works on now: its log lines carry it."""
        self._stderr_task = asyncio.create_task(
            self._log_stderr(), name=f"stderr of {name}", context=Context()
        )  # it outlives the job that the child was started for

    @classmethod
    async def start(
        cls, name: str, module: str, arguments: Sequence[str] = (), *, pass_fds: Sequence[int] = ()
    ) -> ChildProcess:
        """Start `module`. Raises OSError when no process can be made."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", _LAUNCH, name,
                sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid()), *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(), *pass_fds),
                limit=_STDERR_LINE_BYTES,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            process.kill()
            await process.wait()
            raise
        return cls(name, process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def alive(self) -> bool:
        """Whether the process still runs; true to the moment, `returncode` follows when the event loop hears of it."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    async def send(self, message: bytes) -> None:
        """Raises ChildDiedError."""
        try:
            self._writer.write(LENGTH.pack(len(message)) + message)
            await self._writer.drain()
        except (
            OSError,
            RuntimeError,
        ) as error:  # uvloop raises a RuntimeError where the link is closed already
            raise ChildDiedError(self.describe_end()) from error

    async def receive(self) -> bytes:
        """The next message. Safe to cancel: the next call goes on where this one stopped.

        Raises ChildDiedError at the end of the link, or for a length that no message has (then the link is useless).
        """
        try:
            if self._announced is None:
                (self._announced,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            if self._announced > MAX_MESSAGE_BYTES:
                raise ChildDiedError(f"{self.name} announced a message of {self._announced} bytes")
            message = await self._reader.readexactly(self._announced)
        except (asyncio.IncompleteReadError, OSError) as error:
            await self.last_words()
            raise ChildDiedError(self.describe_end()) from error
        self._announced = None
        return message

    async def last_words(self) -> None:
        """Give a child that is ending a moment to end and to say why; `returncode` is known then, if it did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
                await asyncio.wait({self._stderr_task})
        if self.returncode is None and not self.alive:  # the event loop stood still, and has not heard
            await self._process.wait()
            await asyncio.wait({self._stderr_task}, timeout=_END_SECONDS)

    async def wait(self) -> int:
        return await self._process.wait()

    def kill(self) -> None:
        """SIGKILL; harmless when the child is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self, deadline: float = 5.0) -> None:
        """Close the link (the child's sign to end), wait `deadline` seconds, then kill. Idempotent."""
        self._writer.close()
        try:
            async with asyncio.timeout(deadline):
                await self._process.wait()
        except TimeoutError:
            logger.warning("%s (pid %d) did not end in %.1f s: killed", self.name, self.pid, deadline)
        finally:
            self.kill()
        await self._process.wait()
        await self._stderr_task
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def describe_end(self) -> str:
        """Why the child ended, for people: exit status and its last words."""
        code = self.returncode
        how = (
            "lost its link"
            if code is None
            else f"was killed by signal {-code}"
            if code < 0
            else f"exited with {code}"
        )
        words = " | ".join(list(self._last_lines)[-3:])
        return f"{self.name} (pid {self.pid}) {how}" + (f": {words}" if words else "")

    async def _log_stderr(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line beyond the limit: readline has dropped it
                continue
            if not line:
                return
            self._log(line.rstrip())

    def _log(self, line: bytes) -> None:
        fields = {"process": self.name, **self.log_fields}
        record = _record(line)
        if record is None:
            text = line.decode(errors="replace")
            self._last_lines.append(text)
            logger.info("%s: %s", self.name, text, extra={"fields": fields})
            return
        self._last_lines += [record.getMessage()]
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            record.fields = fields
            target.handle(record)


def _record(line: bytes) -> logging.LogRecord | None:
    """The log record that a line is, if it is one."""
    if not line.startswith(LOG_LINE_START):
        return None
    try:
        said = msgspec.json.decode(line, type=LogLine)
    except msgspec.DecodeError:
        return None
    return logging.makeLogRecord(
        {
            "name": said.logger,
            "levelno": said.level,
            "levelname": logging.getLevelName(said.level),
            "msg": "%s",
            "args": (said.message,),
            "created": said.created,
            "exc_text": said.exception or None,
        }
    )
