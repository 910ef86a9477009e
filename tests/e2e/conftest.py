from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.program import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running program for all tests that do not stop or kill it."""
    server = Server(
        tmp_path_factory.mktemp("server"),
        PRECISION="f32",
        FETCH_READ_TIMEOUT="1",
        FETCH_CONNECT_TIMEOUT="2",
        FETCH_TIMEOUT="20",
    )
    asyncio.run(server.start())
    yield server
    assert asyncio.run(server.stop()) == 0
    assert "Traceback" not in server.output


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as client:
        yield client
