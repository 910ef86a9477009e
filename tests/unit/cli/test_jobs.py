"""Watching a job to its end; who does it is shown by the tests of rebuilds and retentions."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence

import msgspec
import pytest
from rich.console import Console

from monolith.cli.exits import CliError, Exit
from monolith.cli.jobs import Job, watched
from monolith.domain.errors import NotPossibleError


class Step(msgspec.Struct, frozen=True):
    state: str
    done: int


def job(steps: Sequence[Step], *, server: str | None = None) -> Job[Step]:
    """It is as far as the next of `steps` each time it is looked at; the last one stays."""
    left = list(steps)

    async def look() -> Step:
        return left.pop(0) if len(left) > 1 else left[0]

    return Job(server, "/work", look, look)


async def test_every_step_is_shown_up_to_the_end() -> None:
    steps = [Step("running", 1), Step("running", 2), Step("failed", 2)]
    shown: list[Step] = []
    assert await watched(job(steps), shown.append, Console(file=io.StringIO())) == steps[-1]
    assert shown == steps


async def test_one_that_cannot_begin() -> None:
    async def refuse() -> Step:
        raise NotPossibleError("one runs already")

    with pytest.raises(CliError, match="one runs already") as caught:
        await watched(Job(None, "/work", refuse, refuse), print, Console(file=io.StringIO()))
    assert caught.value.code == Exit.BAD_SOURCE


@pytest.mark.parametrize(
    ("server", "words"), [("http://x", "the server goes on; GET /work tells how far it is\n"), (None, "")]
)
async def test_who_goes_away_is_told_that_the_server_goes_on(server: str | None, words: str) -> None:
    said, begun = io.StringIO(), asyncio.Event()
    watching = asyncio.create_task(
        watched(job([Step("running", 1)], server=server), lambda _: begun.set(), Console(file=said))
    )
    await begun.wait()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert said.getvalue() == words
