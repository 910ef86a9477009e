from __future__ import annotations

import math
from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from monolith.inference.batcher import DynamicBatcher
from monolith.inference.errors import QueueFullError


def batcher(*, size: int = 4, queue: int = 100, delay: float = 0.0) -> DynamicBatcher[int]:
    return DynamicBatcher(max_batch_size=size, max_queue_size=queue, max_queue_delay=delay)


def test_takes_one_of_each_key_in_turn() -> None:
    waiting = batcher(size=5)
    for item in range(10):
        waiting.put("many", item, 0)
    waiting.put("few", 100, 0)
    waiting.put("other", 200, 0)
    assert waiting.take() == [0, 100, 200, 1, 2]


def test_the_next_batch_goes_on_with_the_key_that_is_next() -> None:
    waiting = batcher(size=1)
    for key, item in [("a", 1), ("a", 2), ("b", 3), ("b", 4)]:
        waiting.put(key, item, 0)
    assert [waiting.take() for _ in range(4)] == [[1], [3], [2], [4]]


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    waiting = batcher(queue=2)
    waiting.put("a", 1, 0)
    waiting.put("b", 2, 0)
    with pytest.raises(QueueFullError, match="2 frames wait already"):
        waiting.put("c", 3, 0)
    assert waiting.take() == [1, 2]


def test_a_removed_item_makes_room_and_is_not_handed_out() -> None:
    waiting = batcher(queue=2)
    waiting.put("a", 1, 0)
    waiting.put("a", 2, 0)
    assert waiting.remove("a", 1)
    waiting.put("b", 3, 0)
    assert waiting.take() == [2, 3]
    assert not waiting.remove("a", 2)


def test_is_due_at_once_without_a_delay() -> None:
    waiting = batcher()
    assert waiting.due_at() is None
    waiting.put("a", 1, 5.0)
    assert waiting.due_at() == -math.inf


def test_with_a_delay_is_due_when_the_oldest_has_waited_or_the_batch_is_full() -> None:
    waiting = batcher(size=3, delay=0.5)
    waiting.put("a", 1, 10.0)
    waiting.put("b", 2, 10.2)
    assert waiting.due_at() == 10.5
    waiting.remove("a", 1)
    assert waiting.due_at() == 10.7
    waiting.put("b", 3, 10.3)
    waiting.put("b", 4, 10.3)
    assert waiting.due_at() == -math.inf


@pytest.mark.parametrize("sizes", [{"size": 0}, {"queue": 0}, {"delay": -1.0}, {"delay": math.nan}])
def test_refuses_limits_without_sense(sizes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least"):
        batcher(**sizes)  # type: ignore[arg-type]


@given(items=st.integers(1, 200), workers=st.integers(1, 8), size=st.integers(1, 16))
def test_batches_leave_no_worker_without_its_share(items: int, workers: int, size: int) -> None:
    waiting = batcher(size=size, queue=200)
    for item in range(items):
        waiting.put("a", item, 0)
    while len(waiting):
        before = len(waiting)
        batch = waiting.take(workers)
        assert 1 <= len(batch) <= size
        assert len(batch) <= max(1, math.ceil(before / workers))


class BatcherMachine(RuleBasedStateMachine):
    """Against a model: every item is handed out once or removed once, in the order of its key, and fairly."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = batcher(size=3, queue=20)
        self.lines: dict[str, deque[int]] = {key: deque() for key in "abcd"}
        self.passed: dict[str, Counter[str]] = {key: Counter() for key in "abcd"}
        self.next_item = 0

    @rule(key=st.sampled_from("abcd"), count=st.integers(1, 8))
    def put(self, key: str, count: int) -> None:
        for _ in range(count):
            self.next_item += 1
            if sum(map(len, self.lines.values())) == 20:
                with pytest.raises(QueueFullError):
                    self.batcher.put(key, self.next_item, 0)
            else:
                self.batcher.put(key, self.next_item, 0)
                self.lines[key].append(self.next_item)

    @precondition(lambda self: any(self.lines.values()))
    @rule(workers=st.integers(1, 4))
    def take(self, workers: int) -> None:
        for item in self.batcher.take(workers):
            key = next(key for key, line in self.lines.items() if line and line[0] == item)
            self.lines[key].popleft()
            self.passed[key].clear()
            for other in "abcd":
                if self.lines[other] and other != key:
                    self.passed[other][key] += 1
                    assert self.passed[other][key] <= 1, f"{key} was served twice before {other}"

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        waiting = [(key, item) for key, line in self.lines.items() for item in line]
        if waiting:
            key, item = data.draw(st.sampled_from(waiting))
            assert self.batcher.remove(key, item)
            self.lines[key].remove(item)
            if not self.lines[key]:
                self.passed[key].clear()

    @invariant()
    def counts(self) -> None:
        assert len(self.batcher) == sum(map(len, self.lines.values()))


TestBatcherMachine = BatcherMachine.TestCase
