"""What holds for every HTTP request of ours, by whichever connection: which URLs, which headers, which redirects are
followed, which answers are refused, and the words for what went wrong."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final, NamedTuple

import httpcore

from monolith.application.redaction import redacted
from monolith.ingest.addresses import ForbiddenAddressError
from monolith.ingest.errors import SourceError
from monolith.ingest.web_url import UrlError, WebUrl

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 5
_TRY_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_SCHEMES: Final = ("http", "https")
_MOST_DIGITS: Final = 18
"""Of a number in a header: what is longer is no size of anything, and Python refuses to read some thousands of them."""
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")


class FetchError(SourceError):
    """What is behind the URL could not be had."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason, permanent=permanent)


class TryLaterError(FetchError):
    """A transient failure; `pause`: seconds that the server asks for."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason, permanent=False)
        self.pause = pause


class StatusError(FetchError):
    """The server's answer says that there is nothing to be had."""

    def __init__(self, status: int) -> None:
        super().__init__(status_in_words(status), permanent=True)
        self.status = status


def http_url(text: str) -> WebUrl:
    """Raises FetchError."""
    try:
        url = WebUrl.parse(text)
    except UrlError as error:
        raise FetchError(_not_a_url(text, str(error)), permanent=True) from error
    if url.scheme not in _SCHEMES:
        raise FetchError(_wrong_scheme(url.scheme), permanent=True)
    return url


def _not_a_url(text: str, reason: str) -> str:
    scheme, colon, _ = text.partition(":")
    if reason.endswith("is not allowed") and colon:
        return _wrong_scheme(scheme)
    if reason == "it has no scheme":
        return _wrong_scheme("")
    shown = f"{redacted(text)!r}"
    return f"{shown} names no host" if reason == "it names no host" else f"{shown} is not a URL: {reason}"


def _wrong_scheme(scheme: str) -> str:
    shown = f"{scheme}:" if scheme else "a URL without scheme"
    return f"{shown} is not allowed; videos are fetched by http or https"


def joined_url(base: WebUrl, reference: str) -> WebUrl:
    """Where `reference`, found in what is behind `base`, leads. Raises FetchError."""
    try:
        url = base.joined(reference)
    except UrlError as error:
        raise FetchError(_not_a_url(reference, str(error)), permanent=True) from error
    if url.scheme not in _SCHEMES:
        raise FetchError(_wrong_scheme(url.scheme), permanent=True)
    return url


def request(
    url: WebUrl, headers: dict[str, str], *, connect_timeout: float, read_timeout: float
) -> httpcore.Request:
    """A GET. `headers`: besides those that every request of ours has."""
    timeouts = {"connect": connect_timeout, "pool": connect_timeout,
                "read": read_timeout, "write": read_timeout}  # fmt: skip
    common = {"Host": url.authority, "User-Agent": "video-analysis", "Accept": "*/*",
              "Accept-Encoding": "identity"}  # fmt: skip
    target = httpcore.URL(
        scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
    )
    return httpcore.Request(
        "GET", target, headers=list((common | headers).items()), extensions={"timeout": timeouts}
    )


def credentials_for(url: WebUrl, first: WebUrl) -> dict[str, str]:
    """The `Authorization` of `first`, for URLs of its origin alone."""
    auth = first.basic_auth if url.origin == first.origin else None
    return {"Authorization": auth} if auth else {}


def header(answer: httpcore.Response, name: str) -> str | None:
    """None where it is missing or empty."""
    wanted = name.encode()
    found = (value for key, value in answer.headers if key.lower() == wanted)
    return next(found, b"").decode("latin-1").strip() or None


def whole_number(text: str) -> int | None:
    """None for what is no number of at most 18 digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def content_length(answer: httpcore.Response) -> int | None:
    """Bytes of the body by the answer's own account; None where it says nothing. Raises FetchError."""
    text = header(answer, "content-length")
    if text is None:
        return None
    if (length := whole_number(text)) is None:
        raise FetchError(
            f"the server names a length that is no number of at most {_MOST_DIGITS} digits", permanent=True
        )
    return length


class ContentRange(NamedTuple):
    """Which bytes an answer begins with, and how many there are of the whole (None: the server does not know)."""

    start: int
    total: int | None


def content_range(answer: httpcore.Response) -> ContentRange | None:
    """None where there is none, or none that can be understood."""
    match = _CONTENT_RANGE.fullmatch(header(answer, "content-range") or "")
    return ContentRange(int(match[1]), None if match[2] == "*" else int(match[2])) if match else None


def redirect_of(url: WebUrl, answer: httpcore.Response) -> WebUrl:
    """Where a redirect from `url` leads. Raises FetchError."""
    location = header(answer, "location")
    if location is None:
        raise FetchError(f"the server answered {answer.status} without saying where to", permanent=True)
    try:
        return joined_url(url, location)
    except FetchError as error:
        raise FetchError(f"the redirect is refused: {error.reason}", permanent=True) from error


def refuse(answer: httpcore.Response) -> None:
    """Raises FetchError unless the answer carries what was asked for."""
    if answer.status in _TRY_LATER:
        after = whole_number(header(answer, "retry-after") or "")  # which may be a date: then our own pause
        raise TryLaterError(status_in_words(answer.status), float(after or 0))
    if answer.status not in (200, 206, 416):
        raise StatusError(answer.status)
    encoding = header(answer, "content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise FetchError(f"the server sent the file compressed ({encoding}) unasked", permanent=True)


def status_in_words(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
    return f"the server answered {status} {phrase}".rstrip()


def validator(answer: httpcore.Response) -> str | None:
    """What names this version of the file in `If-Range`: a strong ETag, else the date of its last change."""
    etag = header(answer, "etag")
    return etag if etag and not etag.startswith("W/") else header(answer, "last-modified")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Every expected failure of a connection as a FetchError in plain words."""
    try:
        yield
    except ForbiddenAddressError as error:
        raise FetchError(str(error), permanent=True) from error
    except socket.gaierror as error:
        raise name_error(error) from error
    except httpcore.ConnectTimeout as error:
        raise TryLaterError("the server did not take the connection in time") from error
    except httpcore.ConnectError as error:
        raise connect_error(error) from error
    except httpcore.TimeoutException as error:
        raise TryLaterError(
            "the server sent nothing for too long (VIDEO_ANALYSIS_FETCH_READ_TIMEOUT)"
        ) from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        raise TryLaterError(f"the connection broke: {error}") from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise FetchError(f"the request could not be made: {error}", permanent=True) from error


def name_error(error: socket.gaierror) -> FetchError:
    if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
        return FetchError(f"the server's name is not known (DNS): {error.strerror}", permanent=True)
    return TryLaterError(f"the server's name could not be looked up (DNS): {error.strerror}")


def connect_error(error: Exception) -> FetchError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f"the server's certificate is not trusted (TLS): {cause.verify_message}"
            return FetchError(reason, permanent=True)
        cause = cause.__cause__ or cause.__context__
    return TryLaterError(f"the server cannot be reached: {error}")
