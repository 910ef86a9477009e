"""The log: readable lines or one JSON object a line, each with what it is about, and never a secret.

Lines for a file or a pipe are written by a thread of their own: a reader that stalls must not stall the event loop.
What does not fit into its bounded queue is lost, and the log says how much.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import re
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from queue import Full, Queue
from typing import Any, Final, Literal, TextIO, TypeAlias

import msgspec

from monolith.application.log_context import logged_fields
from monolith.application.redaction import redacted

LogFormat: TypeAlias = Literal["text", "json"]

QUEUED_LINES: Final = 10_000
_FLUSH_SECONDS: Final = 2.0
_MAIN: Final = "main"
_BEHIND_SCHEME: Final = re.compile(r"://[^\s'\"<>`|\\]+")
"""Of a URL. With the scheme it would take quadratic time over long words."""
_KEY: Final = re.compile(r"\bva_[A-Za-z0-9_-]{8,}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUIET: Final = ("httpx", "httpcore", "aioice", "aiortc")
_SILENT: Final = ("aiormq", "aio_pika")
"""They report each lost connection with tracebacks; `monolith.messaging.connection` says it once, in words."""


def without_secrets(text: str) -> str:
    """`text` with its URLs as users may see them, and without API keys."""
    return _KEY.sub("va_***", _BEHIND_SCHEME.sub(_redacted_behind_scheme, text))


def _redacted_behind_scheme(found: re.Match[str]) -> str:
    return redacted(f"http{found[0]}").removeprefix("http")


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record is about: where it was logged, and what it says of itself (`extra={"fields": …}`)."""
    return {**logged_fields(), **getattr(record, "fields", {})}


class JsonFormatter(logging.Formatter):
    """One object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `process`, the fields of the context,
    and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            "process": _MAIN,
            **fields_of(record),
        }
        exception = _exception_of(self, record)
        if exception:
            entry["exception"] = exception
        try:
            return msgspec.json.encode(entry, enc_hook=str).decode()
        except UnicodeEncodeError:  # lone surrogates, as names of files may have them
            return msgspec.json.encode(_printable(entry), enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """A readable line, what it is about at its end. Nothing in it can pass for another line, or move the cursor.

    `bare`: without time and level, for a handler that shows them itself.
    """

    def __init__(self, *, bare: bool = False) -> None:
        super().__init__()
        self._bare = bare

    def format(self, record: logging.LogRecord) -> str:
        text = without_secrets(record.getMessage()) + _suffix(fields_of(record))
        exception = _exception_of(self, record)
        if exception:
            text += f"\n{exception}"
        text = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text).replace("\n", "\n    ")
        if self._bare:
            return text
        return f"{_rfc3339(record.created)} {record.levelname.lower():<7} {record.name}: {text}"


def _exception_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return without_secrets("\n".join(parts))


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _suffix(fields: dict[str, Any]) -> str:
    return f" [{' '.join(f'{name}={value}' for name, value in fields.items())}]" if fields else ""


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_printable(name): _printable(one) for name, one in value.items()}
    return value


class ThreadedHandler(logging.Handler):
    """Formats at once, writes to `stream` in a thread of its own; a full queue loses lines, and tells how many."""

    def __init__(self, stream: TextIO, *, queued_lines: int = QUEUED_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._lines: Queue[str | None] = Queue(queued_lines)
        self._lost = 0
        self.lost_so_far = 0
        self._thread = threading.Thread(target=self._write_all, name="log writer", daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """Lines that wait to be written, and how many may."""
        return self._lines.qsize(), self._lines.maxsize

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except Full:
            self._lost += 1  # under the handler's lock
            self.lost_so_far += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what is there, for a moment at most. Idempotent."""
        super().close()
        try:
            self._lines.put(None, timeout=_FLUSH_SECONDS)
        except Full:
            return
        self._thread.join(_FLUSH_SECONDS)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self._lost and self._lines.empty():
                self._tell_lost()
        self._tell_lost()

    def _tell_lost(self) -> None:
        self.acquire()
        lost, self._lost = self._lost, 0
        self.release()
        if lost:
            text = f"{lost} log lines were lost: they came faster than they could be written"
            fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": text}
            self._write(self.format(logging.makeLogRecord(fields)))

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            self._stream.write(f"{line}\n")
            if self._lines.empty():
                self._stream.flush()


def configure_logging(level: str, log_format: LogFormat, terminal: logging.Handler | None = None) -> None:
    """Everything that logs in this process goes to standard error, in one format.

    `terminal`: shows text lines where a person looks on, beside the progress bars. Child processes log through this
    one (`monolith.child.log_to_parent`).
    """
    handler = terminal if terminal is not None and log_format == "text" else ThreadedHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(bare=handler is terminal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_failure
    sys.unraisablehook = _log_unraisable
    atexit.register(handler.close)


def threaded_handler() -> ThreadedHandler | None:
    """The one that writes this process's log; None where the log goes to a terminal."""
    return next((one for one in logging.getLogger().handlers if isinstance(one, ThreadedHandler)), None)


def flush_logs() -> None:
    """Before an end without any more ado: give the writer a moment."""
    for handler in logging.getLogger().handlers:
        handler.close()


def logs_json() -> bool:
    """Whether this process's log is JSON: then nothing else may go to standard error."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def _log_thread_failure(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is SystemExit:
        return
    name = failure.thread.name if failure.thread else "a thread"
    _log_hook(f"thread {name} failed", failure.exc_value)


def _log_unraisable(failure: sys.UnraisableHookArgs) -> None:
    _log_hook(failure.err_msg or "an exception was ignored", failure.exc_value)


def _log_hook(message: str, error: BaseException | None) -> None:
    log: Callable[..., None] = logging.getLogger(__name__).error
    log(message, exc_info=(type(error), error, error.__traceback__) if error else None)
