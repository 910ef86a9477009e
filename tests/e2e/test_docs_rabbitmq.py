"""The programs that docs/howto/rabbitmq.md shows, as they stand there, against the real RabbitMQ and the program."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.files import http_server
from tests.media import sample_clip
from tests.peers.rabbitmq import RabbitMq, rabbitmq
from tests.peers.subscriber import bind
from tests.program import Server

PAGE: Final = Path(__file__).parents[2] / "docs" / "howto" / "rabbitmq.md"
_PROGRAM: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def mq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@asynccontextmanager
async def running(program: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(120):
        return (await process.stdout.readline()).decode()


async def test_who_listens_and_who_submits(tmp_path: Path, mq: RabbitMq) -> None:
    url, clip = mq.virtual_host(), sample_clip("bikes.mp4")
    listen, submit = (
        program.replace("amqp://user:password@mq.example.org/", url)
        for program in _PROGRAM.findall(PAGE.read_text(encoding="utf-8"))
    )
    await bind(url, "archive", ["video.RunCompleted"])  # else one that starts slowly might miss it
    async with (
        http_server(clip.parent) as files,
        Server(tmp_path, RABBITMQ_URL=url, WORKERS="1"),
        running(listen) as listening,
    ):
        async with running(
            submit.replace("https://example.org", files).replace("clip.mp4", clip.name)
        ) as submitting:
            kind, order, reply = (await line_of(submitting)).split(" ", 2)
            assert (kind, order) == ("AnalysisStarted", "order-4711")
            assert await submitting.wait() == 0
        [video_id] = re.findall(r"'video_id': '([^']+)'", reply)
        _, subject, coverage = (await line_of(listening)).split()
        assert (subject, coverage) == (f"video-{video_id}", "1.0")
