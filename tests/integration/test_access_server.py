"""The HTTP server's door, over real sockets: connections of one client, slow headers, HTTPS and what is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from monolith.access.self_signed import keep_self_signed
from monolith.access.tls import ServerTls, client_context, pem
from monolith.api.http_protocol import BoundedHttpProtocol, ClientConnections
from monolith.api.server import ApiServer
from monolith.api.tls_listener import plain_answer

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def scheme(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers how it was asked."""
    body = str(scope["scheme"]).encode()
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[ApiServer]:
    server = await ApiServer.start(scheme, stopping=asyncio.Event(), port=0, graceful_seconds=2, **options)
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def tls(tmp_path: Path) -> ServerTls:
    return ServerTls(keep_self_signed(tmp_path / "tls", ["localhost", "127.0.0.1"]))


class Connection:
    """A client's connection. `end`: what comes until the server closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def answer(self) -> bytes:
        async with asyncio.timeout(60):
            return await self._reader.readuntil(b"\r\n\r\n")

    async def end(self) -> bytes:
        async with asyncio.timeout(60):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def connected(server: ApiServer, source: str = "127.0.0.1") -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(source, 0))
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


# Connections of one client


async def test_one_client_has_only_so_many_connections() -> None:
    clients = ClientConnections(2, count_local=True)
    async with serving(clients=clients) as server:
        async with connected(server) as first, connected(server) as second:
            for connection in (first, second):
                connection.writer.write(GET)
                assert b" 200 " in await connection.answer()
            async with connected(server) as third:
                refusal = await third.end()
            assert refusal.startswith(b"HTTP/1.1 503 ")
            assert b"Too many connections from your address" in refusal
            async with connected(server, "127.0.0.2") as other:
                other.writer.write(GET)
                assert b" 200 " in await other.answer()
        await until(lambda: len(clients) == 0)
        async with connected(server) as again:
            again.writer.write(GET)
            assert b" 200 " in await again.answer()


async def test_a_proxy_on_this_machine_has_any_number() -> None:
    async with serving(clients=ClientConnections(1)) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            connection = await stack.enter_async_context(connected(server))
            connection.writer.write(GET)
            assert b" 200 " in await connection.answer()


async def test_handshakes_count_as_connections(tls: ServerTls) -> None:
    clients = ClientConnections(2, count_local=True)
    async with serving(clients=clients, tls=tls.context) as server:
        async with connected(server), connected(server), connected(server) as third:
            assert await third.end() == b""
        async with httpx.AsyncClient(verify=client_context(pem(tls.certificate))) as client:
            async with asyncio.timeout(60):
                while True:  # the two have gone once the server knows
                    with contextlib.suppress(httpx.TransportError):
                        if (await client.get(f"https://127.0.0.1:{server.port}/")).text == "https":
                            break
                    await asyncio.sleep(0.02)


# Headers that do not come


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost:", GET + b"GET / HT"], ids=["none", "half", "next"]
)
async def test_headers_that_do_not_come_end_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "header_seconds", 2.0)
    async with serving() as server, connected(server) as connection:
        connection.writer.write(sent)
        answers = await connection.end()
        assert answers.count(b"HTTP/1.1 200") == sent.count(GET)


async def test_a_slow_answer_is_no_slow_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "header_seconds", 2.0)
    going_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await going_on.wait()
        await scheme(scope, receive, send)

    server = await ApiServer.start(slow, stopping=asyncio.Event(), port=0)
    try:
        async with connected(server) as connection:
            connection.writer.write(GET)
            asyncio.get_running_loop().call_later(3.5, going_on.set)
            assert b" 200 " in await connection.answer()
    finally:
        await server.stop()


# HTTPS


async def test_https_and_plain_http_on_its_port(tls: ServerTls) -> None:
    async with serving(tls=tls.context) as server:
        place = f"127.0.0.1:{server.port}"
        async with httpx.AsyncClient(verify=client_context(pem(tls.certificate))) as client:
            assert (await client.get(f"https://{place}/")).text == "https"
            page = await client.get(f"http://{place}/docs?a=1")
            assert (page.status_code, page.headers["location"]) == (308, f"https://{place}/docs?a=1")
            posted = await client.post(f"http://{place}/analysis/start", json={})
            assert posted.status_code == 400
            assert posted.text == f"This port speaks HTTPS only: use https://{place}\n"


@pytest.mark.parametrize(
    "secret", [b"Authorization: Bearer x", b"x-api-key: x", b"Cookie: video-analysis-session=x"]
)
def test_who_sends_a_secret_in_the_clear_is_not_sent_on_silently(secret: bytes) -> None:
    answer = plain_answer(b"GET / HTTP/1.1\r\nHost: v.example.org\r\n" + secret + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Location" not in answer
    assert b"use https://v.example.org\n" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET //evil.example/\\ HTTP/1.1\r\nHost: x/../y\r\n\r\n",
        b"GET /\tx HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_only_plain_requests_are_redirected(head: bytes) -> None:
    assert plain_answer(head).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("sent", [b"\x16\x03rubbish" * 20, b"\0" * 100, b"x" * 20_000, b""])
async def test_rubbish_on_the_port_of_https_harms_nobody(tls: ServerTls, sent: bytes) -> None:
    async with serving(tls=tls.context) as server:
        async with connected(server) as connection:
            connection.writer.write(sent)
            with contextlib.suppress(OSError):
                connection.writer.write_eof()
            assert b" 200 " not in await connection.end()
        async with httpx.AsyncClient(verify=client_context(pem(tls.certificate))) as client:
            assert (await client.get(f"https://127.0.0.1:{server.port}/")).text == "https"


async def test_it_ends_with_handshakes_under_way(tls: ServerTls) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(tls=tls.context))
        connection = await stack.enter_async_context(connected(server))
        connection.writer.write(b"\x16")
        await connection.writer.drain()
        await server.stop()
        assert await connection.end() == b""
