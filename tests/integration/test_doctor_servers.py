"""The doctor asks the servers that copies share, real ones and those that are not there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from monolith.doctor import servers
from monolith.doctor.findings import Finding
from monolith.settings import Settings
from tests.peers.kurrentdb.process import kurrent_process
from tests.peers.kurrentdb.serving import uri_of
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.program import free_port


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


def with_kurrentdb(uri: str, shared: Path | None = None) -> Settings:
    return Settings(kurrentdb_uri=SecretStr(uri), shared_dir=shared)


def with_rabbitmq(url: str) -> Settings:
    return Settings(rabbitmq_url=SecretStr(url))


async def found(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    """In a thread, as the doctor asks."""
    return await asyncio.to_thread(lambda: list(check(settings)))


def test_what_is_not_used_is_no_problem() -> None:
    for check in (servers.kurrentdb, servers.rabbitmq):
        [finding] = check(Settings())
        assert (finding.level, finding.found.startswith("not used")) == ("ok", True)


async def test_an_event_store_that_answers(tmp_path: Path) -> None:
    async with kurrent_process(tmp_path) as store:
        [answers] = await found(servers.kurrentdb, with_kurrentdb(store.uri, tmp_path))
        assert answers.level == "ok" and answers.found == "answers; it holds no events"
        [_, advice] = await found(servers.kurrentdb, with_kurrentdb(store.uri))
        assert advice.level == "warning" and "VIDEO_ANALYSIS_SHARED_DIR" in advice.found


@pytest.mark.parametrize("uri", ["https://example.org", None])
async def test_an_event_store_that_is_none(uri: str | None) -> None:
    uri = uri or uri_of(free_port())
    [finding] = await found(servers.kurrentdb, with_kurrentdb(uri))
    assert finding.level == "problem"
    assert "VIDEO_ANALYSIS_KURRENTDB_URI" in finding.help


async def test_a_broker(broker: RabbitMq) -> None:
    [answers] = await found(servers.rabbitmq, with_rabbitmq(broker.url))
    assert (answers.level, answers.found) == ("ok", f"127.0.0.1:{broker.port} answers")
    [refused] = await found(servers.rabbitmq, with_rabbitmq(broker.url.replace("guest:guest", "guest:wrong")))
    assert refused.level == "problem"
    assert refused.found == f"127.0.0.1:{broker.port} refuses the user or the password"
    port = free_port()
    [away] = await found(servers.rabbitmq, with_rabbitmq(f"amqp://ada:secret@127.0.0.1:{port}/"))
    assert away.level == "problem" and away.found.startswith(f"127.0.0.1:{port} cannot be used: ")
    assert "secret" not in away.found + away.help


def test_what_libraries_log_is_not_mixed_into_what_it_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monolith", "doctor", "--json", "--data-dir", str(tmp_path / "data")]
    environment = {
        **os.environ,
        "VIDEO_ANALYSIS_RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}/",
    }
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert '"check": "RabbitMQ"' in done.stdout
    assert (done.returncode, done.stderr) == (1, "")
