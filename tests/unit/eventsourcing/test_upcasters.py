from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from eventsourcing.upcasters import Document, Upcaster, UpcasterChain, chains


def step(number: int) -> Callable[[Document], Document]:
    return lambda document: {"path": [*document["path"], number]}


@given(st.integers(0, 8).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count + 1))))
def test_a_chain_runs_each_step_from_the_version_on(case: tuple[int, int]) -> None:
    count, version = case
    chain = UpcasterChain({number: step(number) for number in range(1, count + 1)})
    assert chain.newest == count + 1
    assert chain.upcast({"path": []}, version) == {"path": list(range(version, count + 1))}


def test_chains_by_event_type_in_any_order() -> None:
    made = chains([Upcaster("A", 2, step(2)), Upcaster("B", 1, step(1)), Upcaster("A", 1, step(1))])
    assert {event_type: chain.newest for event_type, chain in made.items()} == {"A": 3, "B": 2}
    assert chains([]) == {}
