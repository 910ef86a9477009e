"""HTTP(S) as a decoder process reads it, blocking: every address checked, every wait bounded and watched, redirects
followed by hand, what broke gone on with where it can be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import httpcore
import msgspec

from monolith.ingest.checked_network import CheckedNetwork, CheckedSyncBackend, pause
from monolith.ingest.http_rules import (
    MOST_REDIRECTS,
    REDIRECTS,
    FetchError,
    TryLaterError,
    content_length,
    content_range,
    credentials_for,
    header,
    redirect_of,
    refuse,
    request,
    translated,
    validator,
)
from monolith.ingest.tls import verifying_context
from monolith.ingest.web_url import WebUrl

_KEPT_CONNECTIONS: Final = 2
_LONGEST_PAUSE: Final = 10.0


class HttpLimits(msgspec.Struct, frozen=True):
    """Seconds; `attempts`: failed ones in a row without a byte between them."""

    connect_timeout: float
    read_timeout: float
    attempts: int = 4
    first_pause: float = 0.5


class Span(NamedTuple):
    """Bytes `start`…`end` (exclusive; None: to the end) of what is behind a URL."""

    start: int = 0
    end: int | None = None


WHOLE: Final = Span()


class CheckedHttp:
    """Requests for one source. The credentials of `first` go to its origin alone. For one thread."""

    def __init__(self, network: CheckedNetwork, first: WebUrl, limits: HttpLimits) -> None:
        self._backend = CheckedSyncBackend(network)
        self._first = first
        self._pools: dict[str, httpcore.ConnectionPool] = {}
        self.network = network
        self.limits = limits

    @contextlib.contextmanager
    def answer(
        self, url: WebUrl, headers: dict[str, str] | None = None
    ) -> Iterator[tuple[httpcore.Response, WebUrl]]:
        """The first answer that is no redirect, its body unread, and the URL that gave it. Raises FetchError."""
        for _ in range(MOST_REDIRECTS + 1):
            with translated():
                answer = self._pool(url.scheme).handle_request(self._request(url, headers or {}))
            try:
                if answer.status not in REDIRECTS:
                    yield answer, url
                    return
                url = redirect_of(url, answer)
            finally:
                answer.close()
        raise FetchError(f"more than {MOST_REDIRECTS} redirects", permanent=True)

    def _request(self, url: WebUrl, headers: dict[str, str]) -> httpcore.Request:
        return request(
            url,
            headers | credentials_for(url, self._first),
            connect_timeout=self.limits.connect_timeout,
            read_timeout=self.limits.read_timeout,
        )

    def _pool(self, scheme: str) -> httpcore.ConnectionPool:
        """Trust takes memory and time to load: only for https."""
        if scheme not in self._pools:
            self._pools[scheme] = httpcore.ConnectionPool(
                ssl_context=verifying_context() if scheme == "https" else None,
                max_keepalive_connections=_KEPT_CONNECTIONS,
                network_backend=self._backend,
            )
        return self._pools[scheme]

    def read_whole(self, url: WebUrl, max_bytes: int) -> tuple[bytes, WebUrl]:
        """What is behind `url`, at most `max_bytes`, and the URL that gave it. Tries again. Raises FetchError."""
        with contextlib.closing(HttpBody(self, url)) as body:
            data = bytearray()
            while piece := body.read(max_bytes + 1 - len(data)):
                data += piece
                if len(data) > max_bytes:
                    raise FetchError(f"the answer is longer than {max_bytes} bytes", permanent=True)
            return bytes(data), body.final_url

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class HttpBody:
    """What is behind `url`, or a span of it, read in order. Where its length is known, a connection that breaks is made
    anew and gone on with: by Range, or by passing over what came before.

    Opens with the first `read` or `open`. `length`: bytes of the whole; None where the server does not say.
    `may_be_endless`: a connection that just closes is no end then, but a failure.
    """

    def __init__(
        self, http: CheckedHttp, url: WebUrl, span: Span = WHOLE, *, may_be_endless: bool = False
    ) -> None:
        self._http = http
        self._url = url
        self._span = span
        self._may_be_endless = may_be_endless
        self._at = span.start
        self._context = contextlib.ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._left = b""
        self._validator: str | None = None
        self._chunked = False
        self._failures = 0
        self.final_url = url
        self.length: int | None = None
        self.content_type: str | None = None

    def open(self) -> None:
        """Ask for it; tries again after transient failures. Raises FetchError."""
        while self._chunks is None:
            try:
                self._connect()
            except TryLaterError as error:
                self._failed(error)

    def read(self, size: int) -> bytes:
        """1…`size` bytes as soon as there are some; b"" at the end. Raises FetchError."""
        while not self._left:
            self.open()
            try:
                self._left = self._left or self._next_chunk()  # passing over may have left some
            except TryLaterError as error:
                self._disconnect()
                if self.length is None:
                    raise
                self._failed(error)
                continue
            if not self._left:
                return b""
            self._failures = 0
        size = size if self._span.end is None else min(size, self._span.end - self._at)
        piece, self._left = self._left[:size], self._left[size:]
        self._at += len(piece)
        return piece

    def _failed(self, error: TryLaterError) -> None:
        """Count it, and wait before the next try. Raises `error` when there were too many."""
        self._failures += 1
        if self._failures >= self._http.limits.attempts:
            raise error
        wanted = max(error.pause, self._http.limits.first_pause * 2 ** (self._failures - 1))
        pause(min(wanted, _LONGEST_PAUSE), self._http.network.watch)

    def _connect(self) -> None:
        context = contextlib.ExitStack()
        try:
            answer, self.final_url = context.enter_context(self._http.answer(self._url, self._headers()))
            refuse(answer)
            chunks = _chunks(answer)
            self._pass_over(chunks, self._begin(answer))
        except BaseException:
            context.close()
            raise
        self._context, self._chunks = context, chunks

    def _headers(self) -> dict[str, str]:
        if self._at == 0 and self._span.end is None:
            return {}
        end = "" if self._span.end is None else str(self._span.end - 1)
        known = {"If-Range": self._validator} if self._validator else {}
        return {"Range": f"bytes={self._at}-{end}"} | known

    def _begin(self, answer: httpcore.Response) -> int:
        """Take the answer's measure; the bytes of it that come before what is wanted. Raises FetchError."""
        starts, length = 0, content_length(answer)
        if answer.status == 206:
            part = content_range(answer)
            if part is None or part.start != self._at:
                raise FetchError("the server sent another part than the one asked for", permanent=False)
            starts, length = part
        elif answer.status == 416:
            raise FetchError("the server does not have the part that was asked for", permanent=True)
        known = self._validator, self.length
        self._validator, self.length = validator(answer) or self._validator, length or self.length
        if self._at > self._span.start and known != (self._validator, self.length):
            raise FetchError("the file changed while it was read", permanent=False)
        self.content_type = header(answer, "content-type")
        self._chunked = (header(answer, "transfer-encoding") or "").lower().endswith("chunked")
        return self._at - starts

    def _pass_over(self, chunks: Iterator[bytes], count: int) -> None:
        """A server that knows no ranges sends it all again. Raises FetchError."""
        while count > 0:
            piece = next(chunks, b"")
            if not piece:
                raise FetchError("the file is shorter than the part that was asked for", permanent=True)
            self._left, count = piece[count:], count - len(piece)

    def _next_chunk(self) -> bytes:
        """b"" at the end. Raises FetchError."""
        assert self._chunks is not None
        if self._span.end is not None and self._at >= self._span.end:
            return b""
        piece = next(self._chunks, b"")
        if not piece:
            self._check_end()
        return piece

    def _check_end(self) -> None:
        end = self._span.end or self.length
        if end is not None and self._at < end:
            raise TryLaterError(f"the connection ended after {self._at} of {end} bytes")
        if end is None and self._may_be_endless and not self._chunked:
            raise TryLaterError("the server closed the connection without saying that this was all")

    def _disconnect(self) -> None:
        self._chunks, self._left = None, b""
        self._context.close()

    def close(self) -> None:
        self._disconnect()


def _chunks(answer: httpcore.Response) -> Iterator[bytes]:
    """The body as it comes, failures in plain words."""
    with translated():
        for chunk in answer.iter_stream():
            if chunk:
                yield chunk
