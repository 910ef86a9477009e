"""A receiver of webhooks: a real HTTP server that checks signatures with its own code, and answers as a test wants."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Delivery:
    """A request as it came. `body`: the JSON document."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> str:
        """The event's name."""
        return str(self.body["type"]).rpartition(".")[2]

    def is_signed_by(self, secret: str) -> bool:
        signed = f"{self.message_id}.{self.headers['webhook-timestamp']}.".encode() + self.raw
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{expected}" in self.headers["webhook-signature"].split(" ")


Status: TypeAlias = int | Callable[[Delivery], Awaitable[int]]
"""How a delivery is answered. A status of 0 resets the connection."""


class Receiver:
    """`status` may be changed at any time. `deliveries`: all that came, whatever was answered."""

    def __init__(self, status: Status, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.deliveries: list[Delivery] = []
        self.taken: list[Delivery] = []
        """Those that were answered with 2xx."""
        self.url = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def events(self) -> list[str]:
        """Names of the events that were taken, in their order."""
        return [delivery.event for delivery in self.taken]

    async def until(self, condition: Callable[[], bool], timeout: float = 30) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0.01)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.split(": ", 1) for line in lines[1:] if line)
        headers = {name.lower(): value for name, value in fields}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        delivery = Delivery(lines[0].split()[1], headers, raw)
        self.deliveries.append(delivery)
        status = self.status if isinstance(self.status, int) else await self.status(delivery)
        if status == 0:
            writer.transport.abort()
            return False
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        rest = "\r\n" if status == 204 else "Content-Length: 2\r\n\r\nok"
        writer.write(f"HTTP/1.1 {status} Said\r\n{extra}{rest}".encode())
        await writer.drain()
        if 200 <= status < 300:
            self.taken.append(delivery)
        return True


@asynccontextmanager
async def receiver(
    status: Status = 204, *, tls: ssl.SSLContext | None = None, port: int = 0, **headers: str
) -> AsyncIterator[Receiver]:
    """On loopback; with `tls` its name is localhost."""
    made = Receiver(status, {name.replace("_", "-"): value for name, value in headers.items()})
    server = await asyncio.start_server(made.serve, "127.0.0.1", port, ssl=tls)
    bound = server.sockets[0].getsockname()[1]
    made.url = f"https://localhost:{bound}/hook" if tls else f"http://127.0.0.1:{bound}/hook"
    async with server:
        yield made
        await made.close()


def closed_url() -> str:
    """Where nobody listens."""
    return "http://127.0.0.1:9/hook"
