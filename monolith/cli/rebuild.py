"""The command `rebuild`: by the server that holds the data directory, else in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

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

from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.cli.jobs import Job, open_job, watched
from monolith.cli.running import print_json
from monolith.readmodels.rebuilds import Part, RebuildStatus
from monolith.settings import Settings

_PLACE: Final = "/rebuild"


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `--json`. `server`: who did it, null: this process; `seconds`: as seen from here."""

    state: str
    projections: list[Part]
    error: str | None
    server: str | None
    seconds: float


async def rebuild_program(
    settings: Settings, names: Sequence[str], output: Console | None, errors: Console
) -> Exit:
    """Rebuild and show how far it is on `errors`, what came of it on `output`, or (None) as JSON on standard output.

    Raises CliError.
    """
    started = time.monotonic()
    by_server, here = partial(_by_server, names), _here(settings, names)
    async with open_job(settings, by_server, here, errors) as job:
        with _bars(errors) as bars:
            status = await watched(job, partial(_show_parts, bars, {}), errors)
    report = RebuildReport(
        state=status.state,
        projections=status.projections,
        error=status.error,
        server=job.server,
        seconds=round(time.monotonic() - started, 3),
    )
    _show(report, output)
    if report.error is not None:
        raise CliError(f"{report.error}; what was there before is in use", Exit.FAILED)
    return Exit.OK


def _by_server(names: Sequence[str], client: AnalysisClient, server: str | None) -> Job[RebuildStatus]:
    return Job(server, _PLACE, partial(client.start_rebuild, names), client.rebuild_status)


@asynccontextmanager
async def _here(settings: Settings, names: Sequence[str]) -> AsyncIterator[Job[RebuildStatus]]:
    from monolith.bootstrap.rebuild import rebuilding_alone  # late: `--help` does without the event store

    async with rebuilding_alone(settings) as rebuilds:

        async def start() -> RebuildStatus:
            return rebuilds.start(names)

        async def look() -> RebuildStatus:
            return rebuilds.status

        yield Job(None, _PLACE, start, look)


def _show_parts(bars: Progress, tasks: dict[str, TaskID], status: RebuildStatus) -> None:
    """`tasks`: the bars by projection, filled in here."""
    for part in status.projections:
        _update(bars, tasks, part)


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
