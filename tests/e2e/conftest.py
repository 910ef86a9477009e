from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.program import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running program for all tests that do not stop or kill it."""
    with serving(
        tmp_path_factory.mktemp("server"),
        PRECISION="f32",
        FETCH_READ_TIMEOUT="1",
        FETCH_CONNECT_TIMEOUT="10",
        FETCH_TIMEOUT="100",
    ) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as client:
        yield client
