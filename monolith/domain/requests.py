"""What users may ask for, checked. Every check says what was wrong and what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from monolith.domain.errors import InvalidRequestError
from monolith.domain.models import MODEL_KEYS

_MAX_FRAME_STEP: Final = 2**31 - 1
_MAX_NAME_LENGTH: Final = 500
_MAX_URL_LENGTH: Final = 8000
_HTTP: Final = ("http", "https")
_RTSP: Final = ("rtsp", "rtsps")
_ESCAPES: Final = "in a user name or password write %2F for /, %3F for ?, %23 for #, %40 for @ and %5B for ["


def check_models(value: object) -> tuple[str, ...]:
    """`modelsToRun`: a list of model names, at least one → the names without repeats, in the order asked."""
    known = ", ".join(MODEL_KEYS)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise InvalidRequestError(
            f"modelsToRun must be a list of one or more of: {known}", field="modelsToRun"
        )
    for name in value:
        if name not in MODEL_KEYS:
            raise InvalidRequestError(
                f"unknown model {name!r}; modelsToRun takes: {known}", field="modelsToRun"
            )
    return tuple(dict.fromkeys(value))


def check_frame_step(value: object) -> int:
    """`frameStep`: a whole number ≥ 1, or its digits in a string; missing (None) or "" means 1."""
    if value is None or value == "":
        return 1
    step = _whole_number(value)
    if step is None or not 1 <= step <= _MAX_FRAME_STEP:
        raise InvalidRequestError(
            f"frameStep must be a whole number from 1 to {_MAX_FRAME_STEP}, not {_shown(value)}",
            field="frameStep",
        )
    return step


def check_name(value: object, default: str) -> str:
    """`videoName`: text of at most 500 characters; missing or blank means `default`, cleaned."""
    shown_default = "".join(c for c in default if c.isprintable())[:_MAX_NAME_LENGTH] or "video"
    if value is None or value == "":
        return shown_default
    if not isinstance(value, str) or len(value) > _MAX_NAME_LENGTH or not value.isprintable():
        raise InvalidRequestError(
            f"videoName must be printable text of at most {_MAX_NAME_LENGTH} characters", field="videoName"
        )
    return value.strip() or shown_default


def check_url(value: object) -> str:
    """`videoURL`: an http(s) URL with a host and a path, or an rtsp(s) URL with a host."""
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(
            "videoURL must be the http(s) URL of a video, or the rtsp(s) URL of a camera", field="videoURL"
        )
    if len(value) > _MAX_URL_LENGTH or not value.isprintable() or " " in value:
        raise InvalidRequestError(
            f"videoURL must be a URL of at most {_MAX_URL_LENGTH} printable characters without blanks",
            field="videoURL",
        )
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:  # which may quote a password
        raise InvalidRequestError(
            f"videoURL is not a URL: its host or port is malformed; {_ESCAPES}", field="videoURL"
        ) from None
    if parts.scheme not in (*_HTTP, *_RTSP):
        shown = f"{parts.scheme}: is not allowed" if parts.scheme else "it has no scheme"
        raise InvalidRequestError(
            f"videoURL must start with http://, https://, rtsp:// or rtsps://; {shown}", field="videoURL"
        )
    if parts.scheme in _RTSP and not parts.hostname:
        raise InvalidRequestError(
            "videoURL needs a host, as in rtsp://camera.example.org/live", field="videoURL"
        )
    if parts.scheme in _HTTP and (not parts.hostname or not parts.path.strip("/")):
        raise InvalidRequestError(
            "videoURL needs a host and a path, as in http://example.org/clip.mp4", field="videoURL"
        )
    if _cut_by_a_password(value, parts.netloc):
        raise InvalidRequestError(
            f"videoURL has an @ behind its host: {_ESCAPES}; in a path write %40 for @", field="videoURL"
        )
    return value


def _cut_by_a_password(url: str, netloc: str) -> bool:
    """Whether what looks like host and port may be a user name and the beginning of a password with a `/`, `?` or `#`
    in it: all of it would be shown."""
    behind = url.partition("//")[2].removeprefix(netloc)
    before, at, _ = behind.partition("@")
    has_port = ":" in netloc.rpartition("]")[2]
    named = "=" in before or (before.endswith("/") and not is_rtsp(url))
    return bool(at) and has_port and "@" not in netloc and not named


def is_rtsp(url: str) -> bool:
    """Whether the URL is one of RTSP, plain or over TLS."""
    return url.partition(":")[0].lower() in _RTSP


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal() and len(value) <= 20:
        return int(value)
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
