"""Another event store in the place of the one that belongs there is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventsourcing.errors import StoreUnavailableError
from monolith import store_guard
from monolith.datadir import DataDirError
from monolith.store_guard import FILE, StoreReplacedError, claim_folder, watch_identity


class Answers:
    """One after another; then what comes last, for ever."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self._rest: Iterator[str | Exception | None] = iter(answers)
        self._last: str | Exception | None = None
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        self._last = next(self._rest, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        return self._last


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_guard, "LOOK_SECONDS", 0.001)


@pytest.mark.parametrize(("found", "words"), [(None, "an empty one"), ("theirs", "of the identity theirs")])
async def test_a_store_that_is_another_is_told(found: str | None, words: str) -> None:
    ask = Answers("ours", StoreUnavailableError("away"), "ours", None, "ours", found)
    with pytest.raises(StoreReplacedError, match=words):
        await watch_identity("ours", ask)
    assert ask.asked == 7


async def test_a_store_that_is_away_or_the_same_is_watched_on() -> None:
    ask = Answers("ours", StoreUnavailableError("away"))
    watching = asyncio.create_task(watch_identity("ours", ask))
    async with asyncio.timeout(30):
        while ask.asked < 5:
            await asyncio.sleep(0.001)
    assert not watching.done()
    watching.cancel()
    await asyncio.wait([watching])


def test_a_folder_belongs_to_the_first_store(tmp_path: Path) -> None:
    for _ in range(2):
        claim_folder(tmp_path, "ours")
    with pytest.raises(DataDirError, match=r"belongs to the event store ours.*leads to another, theirs"):
        claim_folder(tmp_path, "theirs")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="all copies must be able to read and write there"):
        claim_folder(tmp_path / "file", "ours")
