"""Long answers of an application in this process are taken piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from monolith.cli.asgi import StreamingTransport

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def client(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=StreamingTransport(app), base_url="http://api")


def start(status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"x-name", b"value")]}


def piece(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_the_application_sees_the_request() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        await send(start(201))
        seen = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()} {message['body']!r}"
        await send(piece(seen.encode(), more=False))

    async with client(app) as http:
        answer = await http.get("/a/b", params={"c": "d e"})
    assert (answer.status_code, answer.headers["x-name"]) == (201, "value")
    assert answer.text == "GET /a/b?c=d+e b''"


async def test_pieces_come_as_they_are_taken_and_no_sooner() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for number in range(100):
            await send(piece(b"%d," % number))
            sent += 1
        await send(piece(b"", more=False))

    async with client(app) as http, http.stream("GET", "/") as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"0,"
        await asyncio.sleep(0)
        assert sent < 5
        assert b"".join([piece async for piece in pieces]).endswith(b"99,")
    assert sent == 100


async def test_an_answer_that_is_left_tells_the_application() -> None:
    told = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        try:
            while True:
                await send(piece(b"more"))
        finally:
            told.set()

    async with client(app) as http:
        async with http.stream("GET", "/") as answer:
            assert await anext(answer.aiter_raw()) == b"more"
        assert told.is_set()


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(piece(b"half"))

    async with client(app) as http:
        with pytest.raises(httpx.RemoteProtocolError, match="broke off"):
            await http.get("/")


async def test_what_ends_the_application_reaches_the_caller() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("no answer")

    async with client(app) as http:
        with pytest.raises(RuntimeError, match="no answer"):
            await http.get("/")
