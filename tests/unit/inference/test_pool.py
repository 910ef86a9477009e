"""The pool with real worker processes that follow a script."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from monolith.inference.errors import WorkerDiedError, WorkerStartError
from monolith.inference.pool import WorkerPool
from monolith.inference.shared_memory import FrameSlots
from tests.workers import scripted
from tests.workers.harness import DEADLINE, LIMITS, SLOTS, Bench, ended, number_of, pids, process_state, until


@pytest.fixture
def bench() -> Iterator[Bench]:
    slots = FrameSlots.create(SLOTS, 64)
    yield Bench(slots)
    slots.close()


async def test_answers_a_batch_in_order(bench: Bench) -> None:
    async with bench.pool() as pool:
        results = await (await pool.submit("plain", [bench.frame(n) for n in (7, 3, 5)]))
        assert [number_of(result) for result in results] == [7, 3, 5]
        assert all(result.error is None and result.seconds >= 0 for result in results)
        assert pool.identities["plain"].digest == "0" * 64
        assert pool.healthy and pool.reason is None


async def test_an_exception_is_the_result_of_its_frame_alone(bench: Bench) -> None:
    async with bench.pool() as pool:
        good, bad, unknown = bench.frame(1), bench.frame(2, scripted.RAISE), bench.frame(3)
        unknown = msgspec.structs.replace(unknown, slot=SLOTS)
        results = await (await pool.submit("plain", [good, bad, unknown]))
        assert number_of(results[0]) == 1
        assert results[1].error == "ValueError: this frame is bad"
        assert results[2].error == f"ValueError: slot {SLOTS} is not one of 0–{SLOTS - 1}"


async def test_batches_go_to_the_least_loaded_worker_up_to_the_depth(bench: Bench) -> None:
    async with bench.pool(workers=2) as pool:
        answers = [await pool.submit("plain", [bench.held(n) for n in range(size)]) for size in (3, 1, 1)]
        assert [state.frames_in_flight for state in pool.states()] == [3, 2]
        assert pool.has_room()
        answers.append(await pool.submit("plain", [bench.held(9)]))
        assert [state.batches_in_flight for state in pool.states()] == [2, 2]
        assert not pool.has_room()
        bench.let_go(0, 1, 2, 9)
        await asyncio.gather(*answers)
        assert [state.frames_done for state in pool.states()] == [4, 2]


async def test_a_slow_start_does_not_hold_up_the_others(bench: Bench) -> None:
    limits = msgspec.structs.replace(LIMITS, start_timeout=DEADLINE)
    pool = WorkerPool(bench.launch("late:0.5"), workers=2, limits=limits)
    assert pool.reason == "the inference pool is not running"
    await pool.start()
    assert pool.ready_count >= 1
    await until(lambda: pool.ready_count == 2)
    await pool.close()
    assert pool.reason == "the inference pool is not running"


async def test_a_failed_start_shows_the_workers_last_words(bench: Bench) -> None:
    pool = WorkerPool(bench.launch("missing"), workers=2, limits=LIMITS)
    with pytest.raises(WorkerStartError, match="weights of 'missing' are not there: run `models pull`"):
        await pool.start()
    assert all(state.status == "stopped" and state.pid is None for state in pool.states())
    assert pool.reason == "the inference pool is not running"


async def test_a_start_that_takes_too_long_is_given_up(bench: Bench) -> None:
    limits = msgspec.structs.replace(LIMITS, start_timeout=0.5)
    pool = WorkerPool(bench.launch("late:60"), workers=1, limits=limits)
    with pytest.raises(WorkerStartError, match=r"within 0\.5 s"):
        await pool.start()
    assert pool.states()[0].status == "stopped"


async def test_a_module_that_is_not_there_is_a_failed_start(bench: Bench) -> None:
    launch = bench.launch(module="tests.workers.nowhere")
    with pytest.raises(WorkerStartError, match="No module named"):
        await WorkerPool(launch, workers=1, limits=LIMITS).start()


async def test_a_cancelled_start_leaves_nothing(bench: Bench) -> None:
    pool = WorkerPool(bench.launch("late:60"), workers=1, limits=LIMITS)
    start = asyncio.create_task(pool.start())
    await until(lambda: len(pids(pool)) == 1)
    (pid,) = pids(pool)
    start.cancel()
    await asyncio.wait({start})
    assert start.cancelled() and ended(pid)


async def test_a_killed_workers_batches_fail_at_once_and_it_comes_back(bench: Bench) -> None:
    async with bench.pool("slow:60") as pool:
        answers = [await pool.submit("slow:60", [bench.frame(n)]) for n in range(2)]
        os.kill(pids(pool)[0], signal.SIGKILL)
        for answer in answers:
            with pytest.raises(WorkerDiedError, match="was killed by signal 9"):
                await answer
        assert not pool.healthy and "was killed by signal 9" in str(pool.reason)
        await until(lambda: pool.healthy)
        (state,) = pool.states()
        assert state.restarts == 1 and "killed by signal 9" in str(state.last_error)


async def test_a_worker_killed_while_it_starts_is_started_again(bench: Bench, tmp_path: Path) -> None:
    limits = msgspec.structs.replace(LIMITS, start_attempts=100)
    gate = tmp_path / "open"
    pool = WorkerPool(bench.launch(f"gated:{gate}"), workers=1, limits=limits)
    start = asyncio.create_task(pool.start())
    for _ in range(2):
        await until(lambda: len(pids(pool)) == 1)
        (pid,) = pids(pool)
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: pid not in pids(pool))  # type: ignore[misc]
    gate.touch()
    await start
    assert pool.states()[0].restarts == 2
    await pool.close()


async def test_a_hung_batch_is_ended_by_its_deadline(bench: Bench) -> None:
    limits = msgspec.structs.replace(LIMITS, batch_timeout=3)
    async with bench.pool(limits=limits) as pool:
        hung = await pool.submit("plain", [bench.frame(0, scripted.HANG)])
        behind = await pool.submit("plain", [bench.frame(1)])
        for answer in (hung, behind):
            with pytest.raises(WorkerDiedError, match=r"did not answer a batch within 3 s") as caught:
                await answer
            assert not caught.value.from_outside  # though it was killed by SIGKILL: our own
        await until(lambda: pool.healthy)
        assert number_of((await (await pool.submit("plain", [bench.frame(2)])))[0]) == 2


async def test_the_deadline_is_of_one_batch_not_of_the_queue(bench: Bench) -> None:
    limits = msgspec.structs.replace(LIMITS, batch_timeout=3.5, depth=8)
    async with bench.pool("slow:0.5", limits=limits) as pool:
        answers = [await pool.submit("slow:0.5", [bench.frame(n)]) for n in range(8)]
        assert [number_of((await answer)[0]) for answer in answers] == list(range(8))


async def test_an_idle_worker_that_stops_answering_pings_is_replaced(bench: Bench) -> None:
    limits = msgspec.structs.replace(LIMITS, ping_interval=0.1, ping_timeout=3)
    async with bench.pool(limits=limits) as pool:
        (pid,) = pids(pool)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: pool.healthy and pids(pool) != [pid])
        assert "did not answer a ping within 3 s" in str(pool.states()[0].last_error)


async def test_pings_leave_a_healthy_worker_alone(bench: Bench) -> None:
    limits = msgspec.structs.replace(LIMITS, ping_interval=0.01)
    async with bench.pool(limits=limits) as pool:
        await asyncio.sleep(0.3)
        assert pool.healthy and pool.states()[0].restarts == 0


async def test_a_worker_that_will_not_end_is_killed(bench: Bench) -> None:
    limits = msgspec.structs.replace(LIMITS, stop_timeout=0.2)
    async with bench.pool(limits=limits) as pool:
        answer = await pool.submit("plain", [bench.frame(0, scripted.FREEZE)])
        (pid,) = pids(pool)
        await until(lambda: process_state(pid) == "T")
    assert ended(pid)
    assert pool.states()[0].status == "stopped"
    assert "killed by signal 9" in str(pool.states()[0].last_error)
    with pytest.raises(WorkerDiedError, match="is being stopped"):
        await answer


async def test_close_ends_the_workers_and_may_be_repeated(bench: Bench) -> None:
    async with bench.pool(workers=2) as pool:
        workers = pids(pool)
        await pool.close()
        await pool.join()
    assert len(workers) == 2 and all(map(ended, workers))
    assert all("exited with 0" in str(state.last_error) for state in pool.states())


async def test_alone_means_nothing_else_on_that_worker(bench: Bench) -> None:
    async with bench.pool() as pool:
        busy = await pool.submit("plain", [bench.held(1)])
        alone = asyncio.create_task(pool.run_alone("plain", bench.held(2), timeout=DEADLINE))
        await until(lambda: not pool.has_room())
        assert pool.states()[0].frames_in_flight == 1
        bench.let_go(1)
        await busy
        await until(lambda: pool.states()[0].frames_in_flight == 1)
        assert not pool.has_room()
        bench.let_go(2)
        assert number_of(await alone) == 2
        assert pool.has_room()


async def test_alone_waits_for_a_worker_and_moves_on_when_that_one_dies_before(bench: Bench) -> None:
    async with bench.pool("slow:60", "plain") as pool:
        lost = await pool.submit("slow:60", [bench.frame(1)])
        alone = asyncio.create_task(pool.run_alone("plain", bench.frame(2), timeout=DEADLINE))
        await until(lambda: not pool.has_room())
        os.kill(pids(pool)[0], signal.SIGKILL)
        assert number_of(await alone) == 2
        assert isinstance(lost.exception(), WorkerDiedError)


async def test_alone_gives_up_when_no_worker_comes_free(bench: Bench) -> None:
    async with bench.pool("slow:60") as pool:
        answer = await pool.submit("slow:60", [bench.frame(1)])
        with pytest.raises(TimeoutError):
            await pool.run_alone("slow:60", bench.frame(2), timeout=0.1)
        assert pool.has_room()
    assert isinstance(answer.exception(), WorkerDiedError)


async def test_a_worker_with_another_model_may_not_serve(bench: Bench) -> None:
    async with bench.pool("changing", workers=1) as pool:
        os.kill(pids(pool)[0], signal.SIGKILL)
        await until(
            lambda: pool.states()[0].restarts >= 1 and "other models" in str(pool.states()[0].last_error)
        )
        assert not pool.healthy


@pytest.mark.parametrize("status", ["busy", "idle"])
def test_workers_do_not_outlive_a_killed_parent(status: str) -> None:
    command = [sys.executable, "-m", "tests.workers.parent", status]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert len(workers) == 2
    asyncio.run(until(lambda: all(map(ended, workers))))


def test_a_signal_to_the_whole_group_ends_no_worker() -> None:
    """Ctrl-C and a service manager's stop reach every process of the group: the parent alone decides."""
    command = [sys.executable, "-m", "tests.workers.parent", "working"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        for worker in workers:
            os.kill(worker, signal.SIGINT)
        os.killpg(parent.pid, signal.SIGTERM)
        assert parent.stdout.readline().split() == ["0", "1", "0", "0"]
    assert parent.returncode == 0 and len(workers) == 2


@pytest.mark.parametrize(
    ("from_outside", "action"), [(True, scripted.HANG), (False, scripted.EXIT), (False, scripted.SEGFAULT)]
)
async def test_a_kill_from_outside_is_told_from_a_crash(
    bench: Bench, from_outside: bool, action: int
) -> None:
    async with bench.pool() as pool:
        answer = await pool.submit("plain", [bench.frame(0, action)])
        if from_outside:
            os.kill(pids(pool)[0], signal.SIGKILL)
        with pytest.raises(WorkerDiedError) as caught:
            await answer
        assert caught.value.from_outside is from_outside


@pytest.mark.parametrize(
    ("healthy_after", "pauses"), [(60, ["0.1", "0.2", "0.3"]), (0, ["0.1", "0.1", "0.1"])]
)
async def test_each_restart_waits_longer_until_the_worker_was_healthy(
    bench: Bench, caplog: pytest.LogCaptureFixture, healthy_after: float, pauses: list[str]
) -> None:
    limits = msgspec.structs.replace(LIMITS, backoff_first=0.1, backoff_max=0.3, healthy_after=healthy_after)
    async with bench.pool(limits=limits) as pool:
        for death in range(1, 4):
            os.kill(pids(pool)[0], signal.SIGKILL)
            await until(lambda death=death: pool.healthy and pool.states()[0].restarts == death)  # type: ignore[misc]
    lines = [record.getMessage() for record in caplog.records if "next start" in record.getMessage()]
    assert [line.split()[-2] for line in lines] == pauses
