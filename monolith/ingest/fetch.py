"""Fetches video files over HTTP(S): every address checked, every wait bounded, broken downloads resumed.

HTTP is ours down to the connection (httpcore with `CheckedBackend`), because FFmpeg follows redirects to wherever they
lead. Redirects are followed by hand, at most a few, each checked like the first URL; no proxies from the environment.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import httpcore
import httpx
import msgspec

from monolith.application.redaction import redacted
from monolith.ingest.addresses import AddressPolicy, CheckedBackend, ForbiddenAddressError
from monolith.ingest.fetch_partial import DiskFullError, PartialFile

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes of the whole (None: unknown)."""

_T = TypeVar("_T")
_WRITE_BYTES: Final = 2**20
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRY_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_ATTEMPTS: Final = 100
_LONGEST_PAUSE: Final = 30.0
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class FetchError(Exception):
    """The file could not be fetched. `reason` is for users; `permanent`: trying again cannot help."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


class _TryLaterError(FetchError):
    """A transient failure; `pause`: seconds that the server asks for."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason, permanent=False)
        self.pause = pause


class _ChangedError(Exception):
    """The rest does not belong to what is there: start anew."""


class FetchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and bytes; see the settings of similar names. `attempts`: failed ones in a row without progress."""

    max_bytes: int
    connect_timeout: float
    read_timeout: float
    total_timeout: float
    min_rate: float
    min_free_bytes: int = 0
    redirects: int = 5
    attempts: int = 4
    first_pause: float = 0.5


class FetchedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file at `path`, on the disk. `final_url`: after redirects, without password."""

    path: Path
    size: int
    final_url: str
    content_type: str | None


class Fetcher:
    """Safe to use from many tasks at once, with one task a target."""

    def __init__(
        self, policy: AddressPolicy, limits: FetchLimits, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._backend = CheckedBackend(policy)
        self._limits = limits
        self._ssl_context = ssl_context

    async def fetch(self, url: str, target: Path, *, progress: Progress | None = None) -> FetchedFile:
        """Bring the file behind `url` to `target`, whole or not at all; go on where an earlier call stopped.

        Raises FetchError. Cancelling keeps what is there for the next call.
        """
        first = _checked_url(url)
        if self._ssl_context is None:
            self._ssl_context = await asyncio.to_thread(httpx.create_ssl_context)
        partial = PartialFile(target, url, self._limits.min_free_bytes)
        await _in_thread(partial.load)
        try:
            async with asyncio.timeout(self._limits.total_timeout):
                return await self._persist(first, target, partial, progress or _ignore)
        except TimeoutError as error:
            limit = f"{self._limits.total_timeout:g} s (VIDEO_ANALYSIS_FETCH_TIMEOUT)"
            raise FetchError(f"the download took longer than {limit}", permanent=False) from error
        except FetchError as error:
            if error.permanent:
                await _in_thread(partial.discard)
            raise
        finally:
            await _in_thread(partial.close)

    async def _persist(
        self, url: httpx.URL, target: Path, partial: PartialFile, progress: Progress
    ) -> FetchedFile:
        """Try until it is there, or fails for good."""
        failures = 0
        for _ in range(_MOST_ATTEMPTS):
            before = partial.resume_at
            try:
                return await self._attempt(url, target, partial, progress)
            except _ChangedError:
                await _in_thread(partial.discard)
            except _TryLaterError as error:
                failures = 1 if partial.resume_at > before else failures + 1
                if failures >= self._limits.attempts:
                    raise
                pause = max(error.pause, self._limits.first_pause * 2 ** (failures - 1))
                await asyncio.sleep(min(pause, _LONGEST_PAUSE))
        raise FetchError(f"the download broke {_MOST_ATTEMPTS} times", permanent=False)

    async def _attempt(
        self, url: httpx.URL, target: Path, partial: PartialFile, progress: Progress
    ) -> FetchedFile:
        with _translated():
            async with self._answer(url, _range_headers(partial)) as (answer, final):
                await self._receive(answer, partial, progress)
                await _in_thread(partial.commit)
                return FetchedFile(
                    path=target,
                    size=partial.size,
                    final_url=redacted(str(final)),
                    content_type=_header(answer, "content-type"),
                )

    @contextlib.asynccontextmanager
    async def _answer(
        self, url: httpx.URL, headers: dict[str, str]
    ) -> AsyncIterator[tuple[httpcore.Response, httpx.URL]]:
        """The first answer that is no redirect, its body unread, and the URL that gave it."""
        origin, credentials = _origin(url), _basic_auth(url)
        async with self._pool() as pool:
            for _ in range(self._limits.redirects + 1):
                sent = headers | (credentials if _origin(url) == origin else {})
                answer = await pool.handle_async_request(self._request(url, sent))
                try:
                    if answer.status not in _REDIRECTS:
                        yield answer, url
                        return
                    url = _redirect(url, answer)
                finally:
                    await answer.aclose()
        raise FetchError(f"more than {self._limits.redirects} redirects", permanent=True)

    def _pool(self) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            max_keepalive_connections=0,
            http1=True,
            network_backend=self._backend,
        )

    def _request(self, url: httpx.URL, headers: dict[str, str]) -> httpcore.Request:
        limits = self._limits
        timeouts = {"connect": limits.connect_timeout, "pool": limits.connect_timeout,
                    "read": limits.read_timeout, "write": limits.read_timeout}  # fmt: skip
        host = {"Host": url.netloc.decode("ascii"), "User-Agent": "video-analysis", "Accept": "*/*",
                "Accept-Encoding": "identity"}  # fmt: skip
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        return httpcore.Request(
            "GET", target, headers=list((host | headers).items()), extensions={"timeout": timeouts}
        )

    async def _receive(self, answer: httpcore.Response, partial: PartialFile, progress: Progress) -> None:
        """Write the body of a good answer; refuse all others."""
        _refuse(answer)
        total = await self._start(answer, partial)
        if total is not None and total > self._limits.max_bytes:
            raise self._too_large(total)
        async with contextlib.aclosing(_pieces(_above_floor(answer, self._limits))) as pieces:
            async for piece in pieces:
                if partial.size + len(piece) > self._limits.max_bytes:
                    raise self._too_large(partial.size + len(piece))
                await _in_thread(partial.write, piece)
                progress(partial.size, total)
        if total is not None and partial.size < total:
            raise _TryLaterError(f"the connection ended after {partial.size} of {total} bytes")
        if partial.size == 0:
            raise FetchError("the server sent an empty file", permanent=True)

    async def _start(self, answer: httpcore.Response, partial: PartialFile) -> int | None:
        """Put the partial file where the body goes on; the whole file's size, None where unknown."""
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            at, total = _continuation(answer, partial)
            await _in_thread(partial.go_on, at)
            return total
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if partial.resume_at:
                raise _ChangedError
            raise FetchError(_said(answer.status), permanent=True)
        length = _header(answer, "content-length")
        total = int(length) if length and length.isdecimal() else None
        if total is not None and total > self._limits.max_bytes:
            raise self._too_large(total)
        await _in_thread(partial.begin, _validator(answer), total)
        return total

    def _too_large(self, size: int) -> FetchError:
        limit = f"{self._limits.max_bytes} bytes (VIDEO_ANALYSIS_MAX_SOURCE_BYTES)"
        return FetchError(f"the file has at least {size} bytes, the limit is {limit}", permanent=True)


def _ignore(_received: int, _total: int | None) -> None:
    """No one wants to know of progress."""


async def _in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """Run a blocking call; when cancelled, wait for it all the same, so that no thread outlives its file."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        raise


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise FetchError(f"{redacted(text)!r} is not a URL: {error}", permanent=True) from error
    if url.scheme not in ("http", "https"):
        shown = f"{url.scheme}:" if url.scheme else "a URL without scheme"
        raise FetchError(f"{shown} is not allowed; videos are fetched by http or https", permanent=True)
    if not url.host:
        raise FetchError(f"{redacted(text)!r} names no host", permanent=True)
    return url


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _basic_auth(url: httpx.URL) -> dict[str, str]:
    """`user:password@` in the URL, as the header that servers understand."""
    if not url.userinfo:
        return {}
    pair = f"{url.username}:{url.password}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def _header(answer: httpcore.Response, name: str) -> str | None:
    wanted = name.encode()
    found = (value for key, value in answer.headers if key.lower() == wanted)
    return next(found, b"").decode("latin-1").strip() or None


def _redirect(url: httpx.URL, answer: httpcore.Response) -> httpx.URL:
    location = _header(answer, "location")
    if location is None:
        raise FetchError(f"the server answered {answer.status} without saying where to", permanent=True)
    try:
        return _checked_url(str(url.copy_with(userinfo=b"").join(location)))
    except httpx.InvalidURL as error:
        raise FetchError(f"the redirect leads to no URL: {error}", permanent=True) from error
    except FetchError as error:
        raise FetchError(f"the redirect is refused: {error.reason}", permanent=True) from error


def _refuse(answer: httpcore.Response) -> None:
    """Raises FetchError unless the answer carries the file."""
    if answer.status in _TRY_LATER:
        after = _header(answer, "retry-after") or ""
        raise _TryLaterError(_said(answer.status), float(after) if after.isdecimal() else 0.0)
    if answer.status not in (200, 206, 416):
        raise FetchError(_said(answer.status), permanent=True)
    encoding = _header(answer, "content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise FetchError(f"the server sent the file compressed ({encoding}) unasked", permanent=True)


def _said(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
    return f"the server answered {status} {phrase}".rstrip()


def _validator(answer: httpcore.Response) -> str | None:
    """What names this version of the file in `If-Range`: a strong ETag, else the date of its last change."""
    etag = _header(answer, "etag")
    return etag if etag and not etag.startswith("W/") else _header(answer, "last-modified")


def _range_headers(partial: PartialFile) -> dict[str, str]:
    if partial.state is None or not partial.resume_at:
        return {}
    return {"Range": f"bytes={partial.resume_at}-", "If-Range": partial.state.validator}


def _continuation(answer: httpcore.Response, partial: PartialFile) -> tuple[int, int | None]:
    """Where a 206 goes on, and the size of the whole. Raises _ChangedError where it does not fit what is there."""
    match = _CONTENT_RANGE.fullmatch(_header(answer, "content-range") or "")
    if partial.state is None or not partial.resume_at:
        raise FetchError("the server sent a part of the file unasked", permanent=True)
    if match is None or int(match[1]) != partial.resume_at:
        raise _ChangedError
    total = None if match[2] == "*" else int(match[2])
    if _validator(answer) not in (None, partial.state.validator) or total != (partial.state.total or total):
        raise _ChangedError
    return int(match[1]), total


async def _above_floor(answer: httpcore.Response, limits: FetchLimits) -> AsyncGenerator[bytes, None]:
    """The body, as long as it comes faster than the least rate, over every `read_timeout` of waiting."""
    clock = asyncio.get_running_loop().time
    waited, received, asked = 0.0, 0, clock()
    async for chunk in answer.aiter_stream():
        waited, received = waited + clock() - asked, received + len(chunk)
        if waited >= limits.read_timeout:
            if received < limits.min_rate * waited:
                raise _TryLaterError(
                    f"the server sends {received / waited:.0f} bytes a second, "
                    f"less than {limits.min_rate:g} (VIDEO_ANALYSIS_FETCH_MIN_RATE)"
                )
            waited, received = 0.0, 0
        yield chunk
        asked = clock()


async def _pieces(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Bytes joined to pieces worth a write. What came before a failure is passed on before it is raised."""
    joined = bytearray()
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                joined += chunk
                if len(joined) >= _WRITE_BYTES:
                    yield bytes(joined)
                    joined.clear()
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, FetchError):
        if joined:
            yield bytes(joined)
        raise
    if joined:
        yield bytes(joined)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Every expected failure as a FetchError in plain words."""
    try:
        yield
    except ForbiddenAddressError as error:
        raise FetchError(str(error), permanent=True) from error
    except socket.gaierror as error:
        raise _name_error(error) from error
    except httpcore.ConnectTimeout as error:
        raise _TryLaterError("the server did not take the connection in time") from error
    except httpcore.ConnectError as error:
        raise _connect_error(error) from error
    except httpcore.TimeoutException as error:
        raise _TryLaterError(
            "the server sent nothing for too long (VIDEO_ANALYSIS_FETCH_READ_TIMEOUT)"
        ) from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        raise _TryLaterError(f"the connection broke: {error}") from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise FetchError(f"the request could not be made: {error}", permanent=True) from error
    except (DiskFullError, OSError) as error:
        raise FetchError(f"the file could not be stored: {error}", permanent=False) from error


def _name_error(error: socket.gaierror) -> FetchError:
    if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
        return FetchError(f"the server's name is not known (DNS): {error.strerror}", permanent=True)
    return _TryLaterError(f"the server's name could not be looked up (DNS): {error.strerror}")


def _connect_error(error: httpcore.ConnectError) -> FetchError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f"the server's certificate is not trusted (TLS): {cause.verify_message}"
            return FetchError(reason, permanent=True)
        cause = cause.__cause__ or cause.__context__
    return _TryLaterError(f"the server cannot be reached: {error}")
