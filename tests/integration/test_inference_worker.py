"""The worker process by its link: what it says and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from monolith.inference.messages import BatchDone, FromWorker, InferBatch, Ping, Pong, Ready, ToWorker
from monolith.inference.shared_memory import FrameSlots
from monolith.processes import ChildDiedError, ChildProcess
from tests.workers import scripted
from tests.workers.harness import DEADLINE, Bench, number_of

Link = tuple[ChildProcess, Bench]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """A ready worker with the models `plain` and `slow:0.1`."""
    bench = Bench(FrameSlots.create(8, 64))
    launch = bench.launch("plain", "slow:0.1")
    numbers = (launch.slots_fd, launch.slot_count, launch.slot_bytes)
    arguments = [*map(str, numbers), msgspec.json.encode(launch.config).decode()]
    child = await ChildProcess.start("worker", launch.module, arguments, pass_fds=(launch.slots_fd,))
    try:
        ready = await receive(child)
        assert isinstance(ready, Ready) and ready.pid == child.pid
        assert [(model.key, model.version) for model in ready.models] == [
            ("plain", "warm"),
            ("slow:0.1", "warm"),
        ]
        yield child, bench
    finally:
        await child.stop()
        bench.slots.close()


async def send(child: ChildProcess, message: ToWorker) -> None:
    await child.send(msgspec.msgpack.encode(message))


async def receive(child: ChildProcess) -> FromWorker:
    async with asyncio.timeout(DEADLINE):
        message: FromWorker = msgspec.msgpack.decode(await child.receive(), type=FromWorker)
    return message


async def test_answers_a_ping_during_a_long_batch(link: Link) -> None:
    child, bench = link
    await send(child, InferBatch(1, "plain", (bench.held(3),)))
    await send(child, Ping(7))
    assert await receive(child) == Pong(7)
    bench.let_go(3)
    done = await receive(child)
    assert isinstance(done, BatchDone) and done.batch_id == 1


async def test_answers_batches_in_order(link: Link) -> None:
    child, bench = link
    for batch_id, model in enumerate(["slow:0.1", "plain", "plain"]):
        await send(child, InferBatch(batch_id, model, (bench.frame(batch_id), bench.frame(batch_id + 3))))
    for batch_id in range(3):
        done = await receive(child)
        assert isinstance(done, BatchDone) and done.batch_id == batch_id
        assert [number_of(result) for result in done.results] == [batch_id, batch_id + 3]


async def test_a_model_that_it_does_not_have_is_an_error_of_the_frame(link: Link) -> None:
    child, bench = link
    await send(child, InferBatch(1, "other", (bench.frame(1),)))
    done = await receive(child)
    assert isinstance(done, BatchDone)
    assert done.results[0].error == "KeyError: 'other'"


async def test_is_nice_to_the_main_process(link: Link) -> None:
    child, _ = link
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(here + 10, 19)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_goes_on_with_its_batch_at_a_signal_to_the_group(link: Link, number: signal.Signals) -> None:
    child, bench = link
    await send(child, InferBatch(1, "plain", (bench.held(3),)))
    await send(child, Ping(1))
    assert await receive(child) == Pong(1)
    os.kill(child.pid, number)
    bench.let_go(3)
    done = await receive(child)
    assert isinstance(done, BatchDone) and number_of(done.results[0]) == 3


async def test_has_one_thread_for_each_numeric_library(link: Link) -> None:
    """The main one and the reader: numpy's own pool would have one for each core."""
    child, _ = link
    assert len(list(Path(f"/proc/{child.pid}/task").iterdir())) == 2


@pytest.mark.parametrize("busy", [False, True])
async def test_ends_at_the_end_of_the_link(link: Link, busy: bool) -> None:
    child, bench = link
    if busy:
        await send(child, InferBatch(1, "plain", (bench.frame(1, scripted.HANG),)))
    await child.stop(DEADLINE)
    assert child.returncode == 0


async def test_garbage_ends_it(link: Link) -> None:
    child, _ = link
    await child.send(b"\xc1garbage")
    with pytest.raises(ChildDiedError, match="exited with 1"):
        await receive(child)
