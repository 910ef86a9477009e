"""Sends one message to one receiver, once: only to addresses that were checked, signed, within a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Final

import httpcore
import msgspec

from monolith.ingest.addresses import AddressPolicy, CheckedBackend
from monolith.ingest.http_rules import (
    REDIRECTS,
    FetchError,
    header,
    http_url,
    status_in_words,
    translated,
    whole_number,
)
from monolith.ingest.tls import verifying_context
from monolith.ingest.web_url import WebUrl
from monolith.webhooks.payload import CONTENT_TYPE, Message
from monolith.webhooks.secrets import Target
from monolith.webhooks.signature import signature

_GONE: Final = 410
_KEPT_CONNECTIONS: Final = 16
_KEPT_SECONDS: Final = 30.0
_MOST_BODY: Final = 64 << 10
"""Bytes of an answer that are read, so that its connection can be used again; what is longer is cut off."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attempt. `status`: None where there was no answer; `failure`: why it was not delivered, for
    users, None where it was; `pause`: seconds that the receiver asks for; `seconds`: how long the attempt took."""

    status: int | None
    failure: str | None
    pause: float = 0.0
    seconds: float = 0.0

    @property
    def delivered(self) -> bool:
        return self.failure is None

    @property
    def gone(self) -> bool:
        """The receiver wants nothing more, ever."""
        return self.status == _GONE


class Sender:
    """For many tasks at once; they bound how many. `async with` closes its connections."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        timeout: float,
        clock: Callable[[], float] = time.time,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`timeout`: seconds for a whole attempt: name, connection, TLS, request and answer."""
        self._backend = CheckedBackend(policy)
        self._timeout = timeout
        self._clock = clock
        self._ssl_context = ssl_context
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def send(self, target: Target, message: Message) -> Answer:
        """One attempt. Whatever goes wrong between here and the receiver is in the answer."""
        pool = await self._open()
        started = time.monotonic()
        answer = await self._attempt(pool, target, message)
        return msgspec.structs.replace(answer, seconds=time.monotonic() - started)

    async def _attempt(self, pool: httpcore.AsyncConnectionPool, target: Target, message: Message) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                with translated():
                    return await self._ask(pool, self._request(target, message))
        except TimeoutError:
            limit = f"{self._timeout:g} s (VIDEO_ANALYSIS_WEBHOOK_TIMEOUT)"
            return Answer(status=None, failure=f"the receiver did not answer within {limit}")
        except FetchError as error:
            return Answer(status=None, failure=_of_receiver(error.reason))

    async def _ask(self, pool: httpcore.AsyncConnectionPool, request: httpcore.Request) -> Answer:
        answer = await pool.handle_async_request(request)
        try:
            await _read_over(answer)
        finally:
            await answer.aclose()
        pause = whole_number(header(answer, "retry-after") or "") or 0
        return Answer(status=answer.status, failure=_failure(answer.status), pause=float(pause))

    def _request(self, target: Target, message: Message) -> httpcore.Request:
        url, timestamp = http_url(target.url), int(self._clock())
        headers = {
            "Host": url.authority,
            "User-Agent": "video-analysis",
            "Accept": "*/*",
            "Content-Type": CONTENT_TYPE,
            "Content-Length": str(len(message.body)),
            "webhook-id": message.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(target.secret, message.message_id, timestamp, message.body),
        }
        if url.basic_auth is not None:
            headers["Authorization"] = url.basic_auth
        timeouts = {"connect": self._timeout / 2}  # of one address: there may be others
        return httpcore.Request(
            "POST",
            _address(url),
            headers=list(headers.items()),
            content=message.body,
            extensions={"timeout": timeouts},
        )

    async def _open(self) -> httpcore.AsyncConnectionPool:
        async with self._opening:
            if self._pool is None:
                self._pool = httpcore.AsyncConnectionPool(
                    ssl_context=self._ssl_context or await asyncio.to_thread(verifying_context),
                    max_connections=None,
                    max_keepalive_connections=_KEPT_CONNECTIONS,
                    keepalive_expiry=_KEPT_SECONDS,
                    network_backend=self._backend,
                )
            return self._pool


def _address(url: WebUrl) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
    )


async def _read_over(answer: httpcore.Response) -> None:
    """What it says counts for nothing."""
    size = 0
    async with contextlib.aclosing(answer.aiter_stream()) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            size += len(chunk)
            if size > _MOST_BODY:
                return


def _of_receiver(reason: str) -> str:
    return reason.replace("the server", "the receiver", 1)


def _failure(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    said = _of_receiver(status_in_words(status))
    if status in REDIRECTS:
        return f"{said}; redirects are not followed: give the address that it leads to"
    return said
