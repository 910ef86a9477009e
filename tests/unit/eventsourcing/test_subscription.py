"""How a subscription asks for pages; what it delivers is checked by the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from eventsourcing.errors import StoreUnavailableError
from eventsourcing.events import CaughtUp, RecordedEvent
from eventsourcing.subscription import CommitSignal, Page, Subscription
from tests.contract.helpers import WAIT, next_item


def event(position: int) -> RecordedEvent:
    return RecordedEvent("a-1", position, position, "Said", b"", b"", bytes(16), 0.0)


class Pages:
    """A feed that gives the pages it was made with, then empty ones."""

    def __init__(self, *pages: Page | Exception) -> None:
        self.signal = CommitSignal()
        self.closed = False
        self.pages = list(pages)
        self.asked: list[int | None] = []

    async def read_page(self, after: int | None, prefixes: Sequence[str], limit: int) -> Page:
        self.asked.append(after)
        page = self.pages.pop(0) if self.pages else Page([], after, True)
        if isinstance(page, Exception):
            raise page
        return page


async def test_pages_without_a_match_are_passed_over() -> None:
    pages = Pages(Page([], 100, False), Page([event(150)], 200, False), Page([], 300, True))
    subscription = Subscription(pages, after=None, prefixes=["a-"])
    assert await next_item(subscription) == [event(150)]
    assert await next_item(subscription) == CaughtUp(commit_position=300)
    assert pages.asked == [None, 100, 200]


async def test_no_second_read_where_nothing_was_committed_since() -> None:
    pages = Pages(Page([event(1)], 1, True))
    subscription = Subscription(pages, after=None, prefixes=[])
    assert await next_item(subscription) == [event(1)]
    assert await next_item(subscription) == CaughtUp(commit_position=1)
    assert pages.asked == [None]


async def test_a_missed_wake_up_is_made_good_by_polling() -> None:
    pages = Pages(Page([], 1, True))
    subscription = Subscription(pages, after=None, prefixes=[], poll_seconds=0.01)
    assert isinstance(await next_item(subscription), CaughtUp)
    pages.pages.append(Page([event(2)], 2, True))
    assert await next_item(subscription) == [event(2)]


async def test_caught_up_comes_once() -> None:
    subscription = Subscription(Pages(), after=7, prefixes=[], poll_seconds=0.001)
    assert await next_item(subscription) == CaughtUp(commit_position=7)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(subscription)


async def test_errors_pass_and_the_next_read_goes_on() -> None:
    pages = Pages(Page([event(1)], 1, False), StoreUnavailableError("away"), Page([event(2)], 2, True))
    subscription = Subscription(pages, after=None, prefixes=[])
    assert await next_item(subscription) == [event(1)]
    with pytest.raises(StoreUnavailableError):
        await next_item(subscription)
    assert await next_item(subscription) == [event(2)]
    assert pages.asked == [None, 1, 1]


async def test_an_error_of_a_closing_store_ends_it() -> None:
    class Closing(Pages):
        async def read_page(self, after: int | None, prefixes: Sequence[str], limit: int) -> Page:
            self.closed = True
            raise StoreUnavailableError("closed")

    with pytest.raises(StopAsyncIteration):
        await next_item(Subscription(Closing(), after=None, prefixes=[]))


async def test_a_signal_wakes_all_who_wait() -> None:
    signal = CommitSignal()
    seen = signal.count
    waiting = [asyncio.create_task(signal.wait(seen, WAIT)) for _ in range(5)]
    await asyncio.sleep(0)
    signal.notify()
    async with asyncio.timeout(WAIT):
        await asyncio.gather(*waiting)
        await signal.wait(seen, WAIT)
