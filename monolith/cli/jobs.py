"""Long work of the program that is watched to its end: by the server that holds the data directory, else in this
process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from rich.console import Console

from eventsourcing.errors import EventStoreError
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.cli.session import open_session, serving_url
from monolith.datadir import DataDirError
from monolith.domain.errors import DomainError
from monolith.settings import Settings

_POLL_SECONDS: Final = 0.2


class JobState(Protocol):
    """How far it is; it goes on while `state` is `running`."""

    @property
    def state(self) -> str: ...


S = TypeVar("S", bound=JobState)


@dataclass(frozen=True)
class Job(Generic[S]):
    """Work that can be begun and looked at. `server`: who does it, None: this process; `place`: where its API tells of
    it. `start` and `look` raise CliError, `start` DomainError, too."""

    server: str | None
    place: str
    start: Callable[[], Awaitable[S]]
    look: Callable[[], Awaitable[S]]


ByServer: TypeAlias = Callable[[AnalysisClient, str | None], Job[S]]
"""The job as a server does it: its client, and its URL."""


@asynccontextmanager
async def open_job(
    settings: Settings, by_server: ByServer[S], here: AbstractAsyncContextManager[Job[S]], errors: Console
) -> AsyncIterator[Job[S]]:
    """The job of the server that holds the data directory, which `errors` names; else that of `here`, which is entered
    only then. Raises CliError."""
    if serving_url(settings.data_dir) is not None:
        async with open_session(settings) as session:
            if session.server:
                errors.print(f"working through the server at {session.server}")
            yield by_server(session.client, session.server)
        return
    try:
        async with here as job:
            yield job
    except (DataDirError, EventStoreError, OSError) as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error


async def watched(job: Job[S], show: Callable[[S], None], errors: Console) -> S:
    """Begin; the state at the end. `show` is told how far it is. Raises CliError."""
    try:
        state = await job.start()
    except DomainError as error:
        raise CliError(str(error), Exit.BAD_SOURCE) from error
    try:
        while True:
            show(state)
            if state.state != "running":
                return state
            await asyncio.sleep(_POLL_SECONDS)
            state = await job.look()
    except asyncio.CancelledError:
        if job.server:
            errors.print(f"the server goes on; GET {job.place} tells how far it is")
        raise
