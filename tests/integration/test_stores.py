"""Changing from events in a file to events on a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from monolith.bootstrap.data import EVENTS, open_store
from monolith.settings import Settings
from tests.peers.kurrentdb.process import kurrent_process


async def test_events_that_are_left_behind_are_said_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = Settings(data_dir=tmp_path)
    async with kurrent_process(tmp_path) as server:
        now = Settings(data_dir=tmp_path, kurrentdb_uri=SecretStr(server.uri))
        await (await open_store(now)).close()
        assert caplog.messages == []
        await (await open_store(before)).close()
        await (await open_store(now)).close()
    assert [message for message in caplog.messages if f"{tmp_path / EVENTS} are not read" in message]
