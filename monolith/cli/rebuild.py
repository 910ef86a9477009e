"""The command `rebuild`: by the server that holds the data directory, else in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from eventsourcing.errors import StoreUnavailableError
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.cli.running import print_json
from monolith.cli.session import open_session, serving_url
from monolith.datadir import DataDirError
from monolith.domain.errors import DomainError
from monolith.readmodels.rebuilds import Part, Rebuilds, RebuildStatus
from monolith.settings import Settings

_POLL_SECONDS: Final = 0.2


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `--json`. `server`: who did it, null: this process; `seconds`: as seen from here."""

    state: str
    projections: list[Part]
    error: str | None
    server: str | None
    seconds: float


class Worker(Protocol):
    """Who rebuilds. Methods raise CliError."""

    @property
    def server(self) -> str | None: ...

    async def start(self, names: Sequence[str]) -> RebuildStatus: ...

    async def status(self) -> RebuildStatus: ...


class _Server:
    def __init__(self, client: AnalysisClient, server: str | None) -> None:
        self._client = client
        self.server = server

    async def start(self, names: Sequence[str]) -> RebuildStatus:
        return await self._client.start_rebuild(names)

    async def status(self) -> RebuildStatus:
        return await self._client.rebuild_status()


class _Here:
    server: str | None = None

    def __init__(self, rebuilds: Rebuilds) -> None:
        self._rebuilds = rebuilds

    async def start(self, names: Sequence[str]) -> RebuildStatus:
        try:
            return self._rebuilds.start(names)
        except DomainError as error:
            raise CliError(str(error), Exit.BAD_SOURCE) from error

    async def status(self) -> RebuildStatus:
        return self._rebuilds.status


async def rebuild_program(
    settings: Settings, names: Sequence[str], output: Console | None, errors: Console
) -> Exit:
    """Rebuild and show how far it is on `errors`, what came of it on `output`, or (None) as JSON on standard output.

    Raises CliError.
    """
    started = time.monotonic()
    async with _worker(settings) as worker:
        if worker.server:
            errors.print(f"working through the server at {worker.server}")
        status = await _watched(worker, names, errors)
    report = RebuildReport(
        state=status.state,
        projections=status.projections,
        error=status.error,
        server=worker.server,
        seconds=round(time.monotonic() - started, 3),
    )
    _show(report, output)
    if report.error is not None:
        raise CliError(f"{report.error}; what was there before is in use", Exit.FAILED)
    return Exit.OK


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[Worker]:
    if serving_url(settings.data_dir) is not None:
        async with open_session(settings) as session:
            yield _Server(session.client, session.server)
        return
    from monolith.bootstrap.rebuild import rebuilding_alone  # late: `--help` does without the event store

    try:
        async with rebuilding_alone(settings) as rebuilds:
            yield _Here(rebuilds)
    except (DataDirError, StoreUnavailableError) as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error


async def _watched(worker: Worker, names: Sequence[str], errors: Console) -> RebuildStatus:
    """The status at the end."""
    status = await worker.start(names)
    try:
        with _bars(errors) as bars:
            tasks: dict[str, TaskID] = {}
            while True:
                for part in status.projections:
                    _update(bars, tasks, part)
                if status.state != "running":
                    return status
                await asyncio.sleep(_POLL_SECONDS)
                status = await worker.status()
    except asyncio.CancelledError:
        if worker.server:
            errors.print("the server goes on with the rebuild; GET /rebuild tells how far it is")
        raise


def _update(bars: Progress, tasks: dict[str, TaskID], part: Part) -> None:
    if part.projection not in tasks:
        tasks[part.projection] = bars.add_task(part.projection, total=None, start=False, detail="")
    task = tasks[part.projection]
    if part.state == "waiting":
        return
    bars.start_task(task)
    there = "…" if part.events_total is None else f"{part.events_total:,}"
    bars.update(
        task,
        completed=part.events_done,
        total=part.events_total,
        detail=f"{part.events_done:,} of {there} events",
    )
    if part.state == "failed":
        bars.update(task, detail="[red]failed[/red]")
        bars.stop_task(task)


class _EventRate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} events/s" if speed else "")


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}"),
        _EventRate(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )


def _show(report: RebuildReport, output: Console | None) -> None:
    if output is None:
        print_json(report)
        return
    for part in report.projections:
        if part.state == "completed":
            output.print(f"{part.projection}: built again from {part.events_done:,} events")
