"""Links to real child processes: slow, crashing, talking nonsense, orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from monolith.child import LENGTH, MAX_MESSAGE_BYTES
from monolith.processes import ChildDiedError, ChildProcess
from tests.children.orphans import wait_until_gone


@asynccontextmanager
async def _child(behaviour: str) -> AsyncIterator[ChildProcess]:
    child = await ChildProcess.start("child", "tests.children.link_child", [behaviour])
    try:
        yield child
    finally:
        child.kill()
        await child.stop()


async def _until_python(pid: int) -> None:
    """Until the process has become the interpreter."""
    program = Path(sys.executable).resolve()
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}/exe").resolve() != program:
            await asyncio.sleep(0)


async def test_messages_come_back_whole_and_in_order() -> None:
    messages = [b"", b"x", bytes(range(256)) * 1000, b"end"]
    async with _child("echo") as child:
        for message in messages:
            await child.send(message)
        assert [await child.receive() for _ in messages] == messages


async def test_a_slow_start_is_waited_for() -> None:
    async with _child("slow start") as child:
        await child.send(b"early")
        assert await child.receive() == b"early"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_to_the_whole_group_do_not_end_a_child_that_starts(number: signal.Signals) -> None:
    """From the first instruction of its interpreter on, long before its module is there."""
    async with _child("slow start") as child:
        await _until_python(child.pid)
        os.kill(child.pid, number)
        await child.send(b"still here")
        assert await child.receive() == b"still here"


async def test_the_processes_are_the_parallelism(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread for each numeric library, whatever our own environment says; the rest of that goes on to the child."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("TEST_GREETING", "two words 'and' \"quotes\"")
    async with _child("environment") as child:
        await child.send(b"")
        environment = (await child.receive()).decode().splitlines()
    assert {"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1"} <= set(environment)
    assert "TEST_GREETING=two words 'and' \"quotes\"" in environment


async def test_the_child_is_another_process() -> None:
    async with _child("pid") as child:
        await child.send(b"")
        assert await child.receive() == str(child.pid).encode()
        assert child.pid != os.getpid() and child.returncode is None


async def test_a_cancelled_receive_loses_nothing() -> None:
    """Cancelled between a message's length and its body, and again before anything came."""
    async with _child("echo") as child:
        body = os.urandom(3_000_000)
        sending = asyncio.create_task(child.send(body))
        for _ in range(200):
            receiving = asyncio.create_task(child.receive())
            done, _ = await asyncio.wait({receiving}, timeout=0.001)
            if done:
                assert receiving.result() == body
                break
            receiving.cancel()
            await asyncio.wait({receiving})
        else:
            assert await child.receive() == body
        await sending
        await child.send(b"next")
        assert await child.receive() == b"next"


async def test_a_crash_is_told_with_its_signal() -> None:
    async with _child("crash") as child:
        await child.send(b"x")
        with pytest.raises(ChildDiedError, match=rf"child \(pid {child.pid}\) was killed by signal 11"):
            await child.receive()


async def test_an_exception_is_told_with_its_last_words() -> None:
    async with _child("raise") as child:
        await child.send(b"x")
        with pytest.raises(ChildDiedError, match=r"exited with 1: .*RuntimeError: cannot do this"):
            await child.receive()


async def test_how_a_child_ended_is_told_however_late_the_event_loop_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monolith.processes._END_SECONDS", 0.01)
    async with _child("echo") as child:
        transport: Any = child._process._transport  # type: ignore[attr-defined]
        exited, loop = transport._process_exited, asyncio.get_running_loop()
        monkeypatch.setattr(transport, "_process_exited", lambda code: loop.call_later(0.1, exited, code))
        child.kill()
        while child.alive:
            await asyncio.sleep(0.001)
        with pytest.raises(ChildDiedError, match="was killed by signal 9"):
            await child.receive()


async def test_half_a_message_is_none() -> None:
    async with _child("half") as child:
        await child.send(b"x")
        with pytest.raises(ChildDiedError, match="exited with 3"):
            await child.receive()


async def test_garbage_is_no_message() -> None:
    async with _child("garbage") as child:
        announced = LENGTH.unpack(b"GET ")[0]
        assert announced > MAX_MESSAGE_BYTES
        for _ in range(2):
            with pytest.raises(ChildDiedError, match=f"announced a message of {announced} bytes"):
                await child.receive()


async def test_long_lines_of_noise_are_survived() -> None:
    async with _child("noise") as child:
        await child.send(b"x")
        with pytest.raises(ChildDiedError, match=r"exited with 4: .*last word"):
            await child.receive()


async def test_sending_to_a_dead_child() -> None:
    async with _child("echo") as child:
        child.kill()
        await child.wait()
        with pytest.raises(ChildDiedError, match="was killed by signal 9"):
            for _ in range(10):
                await child.send(bytes(100_000))


def test_sending_over_a_link_that_uvloop_has_closed() -> None:
    async def send_after_the_end() -> None:
        async with _child("echo") as child:
            child.kill()
            await child.stop()
            with pytest.raises(ChildDiedError, match="was killed by signal 9"):
                await child.send(b"late")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send_after_the_end())


async def test_stopping_lets_the_child_end_by_itself() -> None:
    child = await ChildProcess.start("child", "tests.children.link_child", ["echo"])
    await child.send(b"x")
    await child.receive()
    alive = child.alive
    await child.stop()
    await child.stop()
    assert (alive, child.alive, child.returncode) == (True, False, 0)


async def test_a_child_that_does_not_end_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    child = await ChildProcess.start("child", "tests.children.link_child", ["deaf"])
    await child.send(b"x")
    await child.receive()
    await child.stop(deadline=0.2)
    assert child.returncode == -signal.SIGKILL
    assert "did not end in 0.2 s: killed" in caplog.text


async def test_a_module_that_is_not_there() -> None:
    child = await ChildProcess.start("child", "tests.children.nowhere")
    with pytest.raises(ChildDiedError, match=r"exited with 1: .*No module named tests.children.nowhere"):
        await child.receive()
    await child.stop()


async def test_no_child_outlives_a_killed_parent() -> None:
    """Not even one that does not watch its link: the kernel ends it."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.children.link_parent", "echo", stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert os.path.exists(f"/proc/{child}")  # noqa: PTH110

    parent.kill()
    await parent.wait()

    await wait_until_gone({child})
