"""Checks beside each other: one that hangs or fails is a finding, and holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from monolith.doctor.findings import Check, Finding, examine, healthy, ok, problem, warning


def test_findings_come_in_the_order_of_the_checks() -> None:
    turn = threading.Event()

    def first() -> Iterator[Finding]:
        turn.wait(60)  # the second one ends before
        yield ok("a", "1")
        yield warning("a", "2", "help")

    def second() -> Iterator[Finding]:
        yield ok("b", "3")
        turn.set()

    found = examine([Check("a", first), Check("b", second)])
    assert [finding.found for finding in found] == ["1", "2", "3"]
    assert healthy(found)


def test_one_that_hangs_keeps_what_it_found_and_says_so() -> None:
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield ok("disk", "began")
        never.wait()

    found = examine([Check("disk", hangs, deadline=2.0), Check("other", lambda: [ok("other", "fine")])])
    assert [finding.found for finding in found] == ["began", "no answer within 2 s", "fine"]
    assert not healthy(found)
    never.set()


def test_one_that_fails_is_a_problem_not_an_end() -> None:
    def fails() -> Iterator[Finding]:
        yield from ()
        raise RuntimeError("oh")

    (found,) = examine([Check("x", fails)])
    assert (found.level, found.found) == ("problem", "the check failed: RuntimeError: oh")
    assert not healthy([found]) and healthy([warning("x", "y", "z")])
    assert problem("x", "y", "z").help == "z"
