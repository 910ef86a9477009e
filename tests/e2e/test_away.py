"""The servers that the program stands on go away and come again: it says so, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.kurrentdb.process import kurrent_process
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.program import Server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path / "rabbitmq") as broker:
        yield broker


async def until_not_ready(client: httpx.AsyncClient, parts: set[str]) -> dict[str, Any]:
    """The reasons, once they are about all of `parts`."""
    async with asyncio.timeout(90):
        while True:
            answer = await client.get("/health/ready")
            reasons: dict[str, Any] = answer.json().get("reasons", {})
            if parts <= set(reasons):
                assert answer.status_code == 503
                return reasons
            await asyncio.sleep(0.2)


async def test_it_says_which_server_is_away_and_is_ready_again_when_they_are_back(
    tmp_path: Path, broker: RabbitMq
) -> None:
    async with (
        kurrent_process(tmp_path) as store,
        Server(tmp_path, KURRENTDB_URI=store.uri, RABBITMQ_URL=broker.url, WORKERS="1") as server,
        server.client() as client,
    ):
        await store.kill()
        await asyncio.to_thread(broker.kill)
        reasons = await until_not_ready(client, {"event store", "message broker"})
        assert "KurrentDB" in reasons["event store"] or "no answer" in reasons["event store"]
        assert "RabbitMQ at 127.0.0.1" in reasons["message broker"]
        assert "guest:guest" not in str(reasons)
        broker.start()
        await store.start()
        await broker.until_ready()
        await server.until_ready(90)


async def test_a_store_that_another_has_replaced_is_refused(tmp_path: Path) -> None:
    settings = {"SHARED_DIR": str(tmp_path / "shared"), "RTMP": "false", "WORKERS": "1"}
    async with kurrent_process(tmp_path) as store:
        server = Server(tmp_path, KURRENTDB_URI=store.uri, **settings)
        async with server:
            await store.kill()
            (tmp_path / "journal").rename(tmp_path / "journal of another day")
            await store.start()
            assert await server.ended() == 1
            assert "the event store was replaced while the program ran" in server.output
        await server.start(wait=False)
        assert await server.ended() == 4
        assert "the shared folder" in server.output and "belongs to the event store" in server.output
