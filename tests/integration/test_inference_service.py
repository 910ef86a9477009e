"""The service over real worker processes: nothing lost, nothing twice, the guilty frame alone is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from monolith.inference.errors import (
    AnswerTimeoutError,
    FrameKillsWorkerError,
    InferenceUnavailableError,
    NoWorkerError,
    QueueFullError,
    ServiceClosedError,
    WorkerStartError,
)
from monolith.inference.pool import WorkerPool
from monolith.inference.service import InferenceService, ServiceLimits
from monolith.inference.shared_memory import FrameSlots
from tests.workers import scripted
from tests.workers.harness import DEADLINE, LIMITS, SLOTS, Bench, number_of, until


@pytest.fixture
def bench() -> Iterator[Bench]:
    slots = FrameSlots.create(SLOTS, 64)
    yield Bench(slots)
    slots.close()


async def test_every_frame_gets_its_own_answer_from_every_model(bench: Bench) -> None:
    async with bench.service("plain", "slow:0", workers=2) as service:
        frames = [bench.frame(number) for number in range(100)]
        asked = [(model, frame) for frame in frames for model in ("plain", "slow:0")]
        results = await asyncio.gather(
            *(service.infer(model, frame, key=f"video {frame.slot % 3}") for model, frame in asked)
        )
        assert [number_of(result) for result in results] == [frame.slot for _, frame in asked]
        assert set(service.identities) == {"plain", "slow:0"}
        assert sum(state.frames_done for state in service.states()) == 200
        assert max(state.batches_done for state in service.states()) < 200


async def test_a_frame_that_the_model_cannot_judge_has_its_error(bench: Bench) -> None:
    async with bench.service() as service:
        bad, good = await asyncio.gather(
            service.infer("plain", bench.frame(1, scripted.RAISE), key="a"),
            service.infer("plain", bench.frame(2), key="a"),
        )
        assert bad.error == "ValueError: this frame is bad" and bad.detections == ()
        assert number_of(good) == 2


@pytest.mark.parametrize("action", [scripted.EXIT, scripted.SEGFAULT])
async def test_a_frame_that_kills_its_worker_is_refused_and_its_neighbours_are_judged(
    bench: Bench, action: int
) -> None:
    async with bench.service(workers=2) as service:
        poison = {5, 6}
        frames = [bench.frame(n, action if n in poison else scripted.ANSWER) for n in range(12)]
        answers = await asyncio.gather(
            *(service.infer("plain", frame, key="a") for frame in frames), return_exceptions=True
        )
        for number, answer in enumerate(answers):
            if number in poison:
                assert isinstance(answer, FrameKillsWorkerError)
                assert "ended its worker 3 times, at last alone" in str(answer)
            else:
                assert not isinstance(answer, BaseException) and number_of(answer) == number
        await until(lambda: service.healthy)
        assert number_of(await service.infer("plain", bench.frame(20), key="a")) == 20


async def test_a_frame_that_hangs_its_worker_is_refused_like_one_that_kills_it(bench: Bench) -> None:
    pool_limits = msgspec.structs.replace(LIMITS, batch_timeout=0.5)
    async with bench.service(pool_limits=pool_limits) as service:
        hung, good = await asyncio.gather(
            service.infer("plain", bench.frame(1, scripted.HANG), key="a"),
            service.infer("plain", bench.frame(2), key="a"),
            return_exceptions=True,
        )
        assert isinstance(hung, FrameKillsWorkerError)
        assert not isinstance(good, BaseException) and number_of(good) == 2


async def test_two_deaths_prove_nothing(bench: Bench) -> None:
    """A second death may be bad luck; the third, alone again, is not."""
    async with bench.service() as service:
        result = await service.infer("plain", bench.frame(1, scripted.MORTAL, deaths=2), key="a")
        assert number_of(result) == 1
        with pytest.raises(FrameKillsWorkerError, match="ended its worker 3 times, at last alone"):
            await service.infer("plain", bench.frame(2, scripted.MORTAL, deaths=3), key="a")


async def _kill_each_worker_that_has_a_frame(service: InferenceService, times: int) -> None:
    """For a service with one worker: its next `times` processes, each as soon as it judges something."""
    killed: int | None = None
    for _ in range(times):

        def judging(killed: int | None = killed) -> bool:
            (state,) = service.states()
            return state.frames_in_flight > 0 and state.pid is not None and state.pid != killed

        await until(judging)
        killed = service.states()[0].pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)


async def test_kills_from_outside_are_not_the_frames_fault(bench: Bench) -> None:
    async with bench.service() as service:
        answer = asyncio.create_task(service.infer("plain", bench.held(1), key="a"))
        await _kill_each_worker_that_has_a_frame(service, 5)
        bench.let_go(1)
        assert number_of(await answer) == 1


async def test_kills_without_end_are(bench: Bench) -> None:
    """It may be this frame for which the kernel runs out of memory."""
    async with bench.service("slow:60") as service:
        answer = asyncio.create_task(service.infer("slow:60", bench.frame(1), key="a"))
        await _kill_each_worker_that_has_a_frame(service, 6)
        with pytest.raises(FrameKillsWorkerError, match=r"6 times, at last alone: .* was killed by signal 9"):
            await answer


@pytest.mark.parametrize("error", [AnswerTimeoutError, NoWorkerError, ServiceClosedError, WorkerStartError])
def test_nobody_to_ask_is_told_from_a_bad_frame(error: type[Exception]) -> None:
    assert issubclass(error, InferenceUnavailableError)
    assert not issubclass(FrameKillsWorkerError, InferenceUnavailableError)


async def test_kill_minus_nine_under_load_loses_nothing(bench: Bench) -> None:
    """Frames in flight at a kill are tried again; each is answered once, with its own answer."""
    answered: Counter[int] = Counter()
    async with bench.service("slow:0.005", workers=2) as service:

        async def judge(number: int) -> None:
            result = await service.infer("slow:0.005", bench.frame(number), key=f"video {number % 3}")
            assert number_of(result) == number
            answered[number] += 1

        def busy() -> list[int]:
            return [state.pid for state in service.states() if state.pid and state.frames_in_flight]

        async def kill_now_and_then() -> None:
            chance = random.Random(4)
            for round_ in range(1, 5):
                await until(lambda round_=round_: answered.total() >= 40 * round_)  # type: ignore[misc]
                await until(lambda: service.waiting()["retries"] == 0 and bool(busy()))
                os.kill(chance.choice(busy()), signal.SIGKILL)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kill_now_and_then())
            for number in range(250):
                tasks.create_task(judge(number))
        assert answered == Counter(range(250))
        assert sum(state.restarts for state in service.states()) >= 3


async def test_all_workers_killed_at_once_is_survived(bench: Bench) -> None:
    async with bench.service("slow:0.05", workers=2) as service:
        answers = [
            asyncio.create_task(service.infer("slow:0.05", bench.frame(n), key="a")) for n in range(20)
        ]
        await until(lambda: sum(state.batches_in_flight for state in service.states()) == 4)
        for state in service.states():
            os.kill(state.pid or 0, signal.SIGKILL)
        await until(lambda: not service.healthy)
        assert "was killed by signal 9" in str(service.reason)
        assert [number_of(result) for result in await asyncio.gather(*answers)] == list(range(20))


async def test_a_full_queue_refuses_at_once(bench: Bench) -> None:
    limits = ServiceLimits(max_batch_size=1, max_queue_size=3)
    async with bench.service(limits=limits) as service:
        answers = [asyncio.create_task(service.infer("plain", bench.held(n), key="a")) for n in range(2)]
        await until(lambda: service.states()[0].batches_in_flight == 2)
        answers += [asyncio.create_task(service.infer("plain", bench.frame(n), key="a")) for n in range(2, 5)]
        await until(lambda: service.waiting()["plain"] == 3)
        with pytest.raises(QueueFullError, match="3 frames wait already"):
            await service.infer("plain", bench.frame(5), key="b")
        bench.let_go(0, 1)
        assert [number_of(result) for result in await asyncio.gather(*answers)] == list(range(5))


async def test_a_video_with_many_frames_does_not_starve_another(bench: Bench) -> None:
    limits = ServiceLimits(max_batch_size=2)
    async with bench.service("slow:0.01", limits=limits) as service:
        order: list[int] = []

        async def judge(number: int, key: str) -> None:
            order.append(number_of(await service.infer("slow:0.01", bench.frame(number), key=key)))

        async with asyncio.TaskGroup() as tasks:
            for number in range(60):
                tasks.create_task(judge(number, "many"))
            for number in range(100, 103):
                tasks.create_task(judge(number, "few"))
        assert max(order.index(number) for number in range(100, 103)) < 12


async def test_a_cancelled_frame_that_waits_is_never_sent(bench: Bench) -> None:
    limits = ServiceLimits(max_batch_size=1)
    async with bench.service(limits=limits) as service:
        answers = [asyncio.create_task(service.infer("plain", bench.held(n), key="a")) for n in range(4)]
        await until(lambda: service.waiting()["plain"] == 2)
        answers[2].cancel()
        await asyncio.wait({answers[2]})
        assert service.waiting()["plain"] == 1
        bench.let_go(*range(4))
        assert [number_of(await answers[n]) for n in (0, 1, 3)] == [0, 1, 3]
        assert service.states()[0].frames_done == 3


async def test_a_cancelled_frame_in_flight_leaves_its_batch_alone(bench: Bench) -> None:
    async with bench.service() as service:
        answers = [asyncio.create_task(service.infer("plain", bench.held(n), key="a")) for n in range(3)]
        await until(lambda: service.states()[0].frames_in_flight == 3)
        answers[1].cancel()
        bench.let_go(*range(3))
        assert [number_of(await answers[n]) for n in (0, 2)] == [0, 2]
        assert answers[1].cancelled()


async def test_a_cancelled_frame_of_a_lost_batch_is_not_tried_again(bench: Bench) -> None:
    async with bench.service("plain") as service:
        hung = asyncio.create_task(service.infer("plain", bench.frame(1, scripted.HANG), key="a"))
        await until(lambda: service.states()[0].frames_in_flight == 1)
        hung.cancel()
        os.kill(service.states()[0].pid or 0, signal.SIGKILL)
        await until(lambda: service.states()[0].restarts == 1 and service.healthy)
        assert number_of(await service.infer("plain", bench.frame(2), key="a")) == 2
        assert service.states()[0].restarts == 1


async def test_a_frame_waits_for_others_as_long_as_the_delay_says(bench: Bench) -> None:
    async with bench.service(limits=ServiceLimits(max_batch_size=3, max_queue_delay=0.2)) as service:
        assert number_of(await service.infer("plain", bench.frame(1), key="a")) == 1


async def test_a_frame_waits_for_others_until_its_batch_is_full(bench: Bench) -> None:
    async with bench.service(limits=ServiceLimits(max_batch_size=2, max_queue_delay=DEADLINE)) as service:
        first = asyncio.create_task(service.infer("plain", bench.frame(2), key="a"))
        await until(lambda: service.waiting()["plain"] == 1)
        second = asyncio.create_task(service.infer("plain", bench.frame(3), key="b"))
        assert [number_of(result) for result in await asyncio.gather(first, second)] == [2, 3]
        assert service.states()[0].batches_done == 1


async def test_no_answer_within_the_deadline_is_an_error(bench: Bench) -> None:
    limits = ServiceLimits(answer_timeout=0.2)
    async with bench.service(limits=limits) as service:
        with pytest.raises(AnswerTimeoutError, match=r"no answer within 0\.2 s: the workers are behind"):
            await service.infer("plain", bench.held(1), key="a")


async def test_without_a_worker_for_the_retry_the_frame_is_not_blamed(bench: Bench) -> None:
    limits = ServiceLimits(isolation_timeout=0.1)
    pool_limits = msgspec.structs.replace(LIMITS, backoff_first=60, backoff_max=60)
    async with bench.service(limits=limits, pool_limits=pool_limits) as service:
        with pytest.raises(NoWorkerError, match="the retry found none: no inference worker is ready"):
            await service.infer("plain", bench.frame(1, scripted.EXIT), key="a")


async def test_closing_fails_what_waits_and_refuses_what_comes(bench: Bench) -> None:
    async with bench.service("slow:60") as service:
        answers = [asyncio.create_task(service.infer("slow:60", bench.frame(n), key="a")) for n in range(20)]
        await until(lambda: service.states()[0].batches_in_flight == 2)
        await service.close()
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert all(isinstance(result, ServiceClosedError) for result in results)
        with pytest.raises(ServiceClosedError, match="has been closed"):
            await service.infer("slow:60", bench.frame(1), key="a")
        assert not service.healthy


async def test_a_service_that_cannot_start_says_why_and_can_be_closed(bench: Bench) -> None:
    service = InferenceService(WorkerPool(bench.launch("missing"), workers=1, limits=LIMITS), ["missing"])
    with pytest.raises(WorkerStartError, match="are not there: run `models pull`"):
        await service.start()
    with pytest.raises(ServiceClosedError, match="has not been started"):
        await service.infer("missing", bench.frame(1), key="a")
    await service.close()


async def test_a_broken_supervision_ends_the_service_loudly(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of our own must not leave callers waiting."""
    async with bench.service("slow:60") as service:
        waiting = asyncio.create_task(service.infer("slow:60", bench.frame(1), key="a"))
        await until(lambda: service.states()[0].frames_in_flight == 1)

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("monolith.inference.supervisor.SupervisedWorker._was_healthy", broken)
        os.kill(service.states()[0].pid or 0, signal.SIGKILL)
        with pytest.raises(ServiceClosedError, match="inference pool watch failed"):
            await waiting
        with pytest.raises(ExceptionGroup):
            await service.join()
        assert "inference pool watch failed" in str(service.reason)


async def test_an_unknown_model_is_a_key_error(bench: Bench) -> None:
    async with bench.service() as service:
        with pytest.raises(KeyError):
            await service.infer("nothing", bench.frame(1), key="a")


async def test_kills_at_any_moment_leave_no_frame_without_its_one_answer(bench: Bench) -> None:
    """Also while a worker starts, drains or judges one frame alone; no frame is blamed for them."""
    async with bench.service("slow:0.005", workers=2) as service:
        loop, chance = asyncio.get_running_loop(), random.Random(11)

        async def kill_at_random(until_time: float) -> None:
            while loop.time() < until_time:
                await asyncio.sleep(chance.uniform(0.02, 0.25))
                running = [state.pid for state in service.states() if state.pid is not None]
                if running:
                    with contextlib.suppress(ProcessLookupError):  # dead of the kill before
                        os.kill(chance.choice(running), signal.SIGKILL)

        killer = asyncio.create_task(kill_at_random(loop.time() + 2.5))
        answers = await asyncio.gather(
            *(service.infer("slow:0.005", bench.frame(n), key=f"video {n % 3}") for n in range(200)),
            return_exceptions=True,
        )
        await killer
        for number, answer in enumerate(answers):
            assert not isinstance(answer, BaseException) and number_of(answer) == number
        await until(lambda: all(state.status == "ready" for state in service.states()))
        assert service.waiting() == {"slow:0.005": 0, "retries": 0}
        assert number_of(await service.infer("slow:0.005", bench.frame(7), key="a")) == 7
