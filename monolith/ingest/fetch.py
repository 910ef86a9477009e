"""Fetches video files over HTTP(S): every address checked, every wait bounded, broken downloads resumed.

HTTP is ours down to the connection (httpcore with `CheckedBackend`), because FFmpeg follows redirects to wherever they
lead. Redirects are followed by hand, at most a few, each checked like the first URL; no proxies from the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import httpcore
import msgspec

from monolith.application.redaction import redacted
from monolith.domain.events import Transport
from monolith.ingest.addresses import AddressPolicy, CheckedBackend, ForbiddenAddressError
from monolith.ingest.fetch_partial import DiskFullError, PartialFile
from monolith.ingest.http_rules import (
    MOST_REDIRECTS,
    REDIRECTS,
    FetchError,
    TryLaterError,
    content_length,
    content_range,
    credentials_for,
    header,
    http_url,
    redirect_of,
    refuse,
    request,
    status_in_words,
    translated,
    validator,
)
from monolith.ingest.tls import verifying_context
from monolith.ingest.transport import HEAD_BYTES, transport_for
from monolith.ingest.web_url import WebUrl
from monolith.threads import in_thread

__all__ = ["FetchError", "FetchLimits", "FetchedFile", "Fetcher"]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes of the whole (None: unknown)."""

_T = TypeVar("_T")
_WRITE_BYTES: Final = 2**20
_MOST_ATTEMPTS: Final = 100
_LONGEST_PAUSE: Final = 30.0


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
    redirects: int = MOST_REDIRECTS
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
        first = http_url(url)
        await self._trust()
        partial = PartialFile(target, url, self._limits.min_free_bytes)
        await in_thread(partial.load)
        try:
            async with asyncio.timeout(self._limits.total_timeout):
                return await self._persist(first, target, partial, progress or _ignore)
        except TimeoutError as error:
            limit = f"{self._limits.total_timeout:g} s (VIDEO_ANALYSIS_FETCH_TIMEOUT)"
            raise FetchError(f"the download took longer than {limit}", permanent=False) from error
        except FetchError as error:
            if error.permanent:
                await in_thread(partial.discard)
            raise
        finally:
            await in_thread(partial.close)

    async def transport_of(self, url: str) -> Transport:
        """How the pictures behind `url` have to be taken, by its first bytes. Raises FetchError."""
        first = http_url(url)
        await self._trust()

        async def look() -> Transport:
            with translated():
                async with self._answer(first, {}) as (answer, _):
                    refuse(answer)
                    return transport_for(
                        await _head(answer), content_length(answer), header(answer, "content-type")
                    )

        return await self._persistently(look, lambda: 0)

    async def _trust(self) -> None:
        if self._ssl_context is None:
            self._ssl_context = await asyncio.to_thread(verifying_context)

    async def _persist(
        self, url: WebUrl, target: Path, partial: PartialFile, progress: Progress
    ) -> FetchedFile:
        """Try until it is there, or fails for good."""

        async def attempt() -> FetchedFile:
            for _ in range(_MOST_ATTEMPTS):
                with contextlib.suppress(_ChangedError):
                    return await self._attempt(url, target, partial, progress)
                await in_thread(partial.discard)
            raise FetchError("the file changes all the time", permanent=False)

        return await self._persistently(attempt, lambda: partial.resume_at)

    async def _persistently(self, attempt: Callable[[], Awaitable[_T]], reached: Callable[[], int]) -> _T:
        """What `attempt` gives, tried again after transient failures as long as `reached` grows, else a few times."""
        failures = 0
        for _ in range(_MOST_ATTEMPTS):
            before = reached()
            try:
                return await attempt()
            except TryLaterError as error:
                failures = 1 if reached() > before else failures + 1
                if failures >= self._limits.attempts:
                    raise
                pause = max(error.pause, self._limits.first_pause * 2 ** (failures - 1))
                await asyncio.sleep(min(pause, _LONGEST_PAUSE))
        raise FetchError(f"the download broke {_MOST_ATTEMPTS} times", permanent=False)

    async def _attempt(
        self, url: WebUrl, target: Path, partial: PartialFile, progress: Progress
    ) -> FetchedFile:
        with translated(), _storing():
            async with self._answer(url, _range_headers(partial)) as (answer, final):
                await self._receive(answer, partial, progress)
                await in_thread(partial.commit)
                return FetchedFile(
                    path=target,
                    size=partial.size,
                    final_url=redacted(str(final)),
                    content_type=header(answer, "content-type"),
                )

    @contextlib.asynccontextmanager
    async def _answer(
        self, first: WebUrl, headers: dict[str, str]
    ) -> AsyncIterator[tuple[httpcore.Response, WebUrl]]:
        """The first answer that is no redirect, its body unread, and the URL that gave it."""
        url = first
        async with self._pool() as pool:
            for _ in range(self._limits.redirects + 1):
                sent = headers | credentials_for(url, first)
                answer = await pool.handle_async_request(self._request(url, sent))
                try:
                    if answer.status not in REDIRECTS:
                        yield answer, url
                        return
                    url = redirect_of(url, answer)
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

    def _request(self, url: WebUrl, headers: dict[str, str]) -> httpcore.Request:
        limits = self._limits
        return request(url, headers, connect_timeout=limits.connect_timeout, read_timeout=limits.read_timeout)

    async def _receive(self, answer: httpcore.Response, partial: PartialFile, progress: Progress) -> None:
        """Write the body of a good answer; refuse all others."""
        refuse(answer)
        total = await self._start(answer, partial)
        if total is not None and total > self._limits.max_bytes:
            raise self._too_large(total)
        async with contextlib.aclosing(_pieces(_above_floor(answer, self._limits))) as pieces:
            async for piece in pieces:
                if partial.size + len(piece) > self._limits.max_bytes:
                    raise self._too_large(partial.size + len(piece))
                await in_thread(partial.write, piece)
                progress(partial.size, total)
        if total is not None and partial.size < total:
            raise TryLaterError(f"the connection ended after {partial.size} of {total} bytes")
        if partial.size == 0:
            raise FetchError("the server sent an empty file", permanent=True)

    async def _start(self, answer: httpcore.Response, partial: PartialFile) -> int | None:
        """Put the partial file where the body goes on; the whole file's size, None where unknown."""
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            at, total = _continuation(answer, partial)
            await in_thread(partial.go_on, at)
            return total
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if partial.resume_at:
                raise _ChangedError
            raise FetchError(status_in_words(answer.status), permanent=True)
        total = content_length(answer)
        if total is not None and total > self._limits.max_bytes:
            raise self._too_large(total)
        await in_thread(partial.begin, validator(answer), total)
        return total

    def _too_large(self, size: int) -> FetchError:
        limit = f"{self._limits.max_bytes} bytes (VIDEO_ANALYSIS_MAX_SOURCE_BYTES)"
        return FetchError(f"the file has at least {size} bytes, the limit is {limit}", permanent=True)


def _ignore(_received: int, _total: int | None) -> None:
    """No one wants to know of progress."""


def _range_headers(partial: PartialFile) -> dict[str, str]:
    if partial.state is None or not partial.resume_at:
        return {}
    return {"Range": f"bytes={partial.resume_at}-", "If-Range": partial.state.validator}


def _continuation(answer: httpcore.Response, partial: PartialFile) -> tuple[int, int | None]:
    """Where a 206 goes on, and the size of the whole. Raises _ChangedError where it does not fit what is there."""
    part = content_range(answer)
    if partial.state is None or not partial.resume_at:
        raise FetchError("the server sent a part of the file unasked", permanent=True)
    if part is None or part.start != partial.resume_at:
        raise _ChangedError
    if validator(answer) not in (None, partial.state.validator) or part.total != (
        partial.state.total or part.total
    ):
        raise _ChangedError
    return part


async def _head(answer: httpcore.Response) -> bytes:
    """The first bytes of the body."""
    head = bytearray()
    async with contextlib.aclosing(_body(answer)) as chunks:
        async for chunk in chunks:
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
    return bytes(head[:HEAD_BYTES])


async def _body(answer: httpcore.Response) -> AsyncGenerator[bytes, None]:
    async for chunk in answer.aiter_stream():
        yield chunk


async def _above_floor(answer: httpcore.Response, limits: FetchLimits) -> AsyncGenerator[bytes, None]:
    """The body, as long as it comes faster than the least rate, over every `read_timeout` of waiting."""
    clock = asyncio.get_running_loop().time
    waited, received, asked = 0.0, 0, clock()
    async for chunk in answer.aiter_stream():
        waited, received = waited + clock() - asked, received + len(chunk)
        if waited >= limits.read_timeout:
            if received < limits.min_rate * waited:
                raise TryLaterError(
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
def _storing() -> Iterator[None]:
    try:
        yield
    except (socket.gaierror, ForbiddenAddressError):
        raise
    except (DiskFullError, OSError) as error:
        raise FetchError(f"the file could not be stored: {error}", permanent=False) from error
