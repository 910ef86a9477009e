"""The end: asked for once, twice, three times; by force at its deadline."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from monolith import shutdown
from monolith.shutdown import Ending


class World:
    """An ending that forces nothing but says that it would."""

    def __init__(self, deadline: float) -> None:
        self.forced = threading.Event()
        self.ending = Ending(deadline, force=self.forced.set)
        self.hurries = 0
        self.ending.on_hurried = self.hurry

    def hurry(self) -> None:
        self.hurries += 1


@pytest.fixture
def world() -> Iterator[World]:
    world = World(60)
    yield world
    world.ending.done()


async def test_asked_once_it_begins_twice_it_hurries_three_times_it_is_forced(world: World) -> None:
    ending = world.ending
    assert not ending.asked.is_set()
    ending.ask("SIGTERM")
    assert ending.asked.is_set() and world.hurries == 0 and not world.forced.is_set()
    ending.ask("SIGTERM")
    assert world.hurries == 1 and not world.forced.is_set()
    ending.ask("SIGTERM")
    assert world.forced.is_set()


async def test_at_the_deadline_it_is_forced_whatever_the_event_loop_does() -> None:
    world = World(0.05)
    world.ending.begin()
    world.ending.begin()
    assert world.forced.wait(60)  # the loop is blocked meanwhile


async def test_asked_again_the_deadline_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "HURRIED_SECONDS", 0.05)
    world = World(3600)
    world.ending.ask("SIGINT")
    world.ending.ask("SIGINT")
    assert world.forced.wait(60)


async def test_what_ended_in_order_is_not_forced() -> None:
    world = World(120)
    before = set(threading.enumerate())
    world.ending.begin()
    (timer,) = set(threading.enumerate()) - before
    world.ending.done()
    timer.join(60)
    assert not timer.is_alive() and not world.forced.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_ask(world: World, number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    world.ending.take_signals()
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        assert not world.ending.asked.is_set()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(60):
            await world.ending.asked.wait()
    finally:
        for one, handler in before.items():
            asyncio.get_running_loop().remove_signal_handler(one)
            signal.signal(one, handler)
