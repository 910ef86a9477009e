"""The command `retention`: by the server that holds the data directory, else in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from monolith.application.retention_report import RetentionReport, RetentionRequest
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.cli.jobs import Job, open_job, watched
from monolith.cli.running import print_json
from monolith.domain.errors import InvalidRequestError
from monolith.settings import Settings

_PLACE: Final = "/retention"
_PHASES: Final = {
    "finding": "looking",
    "expiring": "letting go",
    "purging": "removing files",
    "ended": "ended",
}


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What went of one video."""

    video_id: str
    video_name: str
    segments: int
    frames: int
    bytes_freed: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `--json`, and what the server answers. Times are ISO 8601, UTC. `segments` of `videos` videos went,
    with `frames` stored frames; `segments_purged` of them are off the disk, which freed `bytes_freed`.
    """

    state: str
    phase: str
    dry_run: bool
    days: float
    older_than: str
    progress: float
    videos: int
    segments: int
    frames: int
    segments_purged: int
    bytes_freed: int
    segments_unreadable: int
    by_video: list[Share]
    error: str | None


class _State(msgspec.Struct, frozen=True):
    last: Result | None


def request_of(days: float, *, dry_run: bool, keep: Sequence[str], yes: bool) -> RetentionRequest:
    """Raises CliError."""
    if days == 0 and not (dry_run or yes):
        raise CliError(
            "--days 0 lets go of all that is analysed; if that is wanted, say --yes, or look first with --dry-run",
            Exit.USAGE,
        )
    try:
        return RetentionRequest(days=days, dry_run=dry_run, keep=frozenset(one.lower() for one in keep))
    except InvalidRequestError as error:
        raise CliError(f"--{error}", Exit.USAGE) from error


async def retention_program(
    settings: Settings, request: RetentionRequest, output: Console | None, errors: Console
) -> Exit:
    """Let go of what is old and show how far it is on `errors`, what came of it on `output`, or (None) as JSON on
    standard output. Raises CliError.
    """
    by_server, here = partial(_by_server, request), _here(settings, request)
    async with open_job(settings, by_server, here, errors) as job:
        with _bar(errors) as bar:
            task = bar.add_task(_PHASES["finding"], total=1.0, detail="")
            result = await watched(job, partial(_show_progress, bar, task), errors)
    _show(result, output)
    if result.error is not None:
        raise CliError(result.error, Exit.FAILED)
    return Exit.OK


def _by_server(request: RetentionRequest, client: AnalysisClient, server: str | None) -> Job[Result]:
    body = {"days": request.days, "dry_run": request.dry_run, "keep": sorted(request.keep)}

    async def look() -> Result:
        last = (await client.call("GET", _PLACE, _State)).last
        if last is None:
            raise CliError(f"the server at {server} was started again meanwhile", Exit.FAILED)
        return last

    return Job(server, _PLACE, partial(client.call, "POST", _PLACE, Result, json=body), look)


@asynccontextmanager
async def _here(settings: Settings, request: RetentionRequest) -> AsyncIterator[Job[Result]]:
    from monolith.bootstrap.retention import retaining_alone  # late: `--help` does without the event store

    async with retaining_alone(settings) as retention:

        async def start() -> Result:
            return _result_of(await retention.start(request))

        async def look() -> Result:
            assert retention.report is not None
            return _result_of(retention.report)

        yield Job(None, _PLACE, start, look)


def _show_progress(bar: Progress, task: TaskID, result: Result) -> None:
    detail = f"{result.segments:,} segments, {result.frames:,} frames"
    bar.update(task, description=_PHASES[result.phase], completed=result.progress, detail=detail)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
    )


def _result_of(report: RetentionReport) -> Result:
    fields = msgspec.to_builtins(report)
    return msgspec.convert(
        {
            **fields,
            "older_than": _iso_time(report.older_than),
            "progress": round(report.progress, 4),
            "segments_purged": report.purged,
            "segments_unreadable": report.unreadable,
        },
        Result,
    )


def _iso_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))


def _show(result: Result, output: Console | None) -> None:
    if output is None:
        print_json(result)
        return
    if result.by_video:
        output.print(_table(result))
    went, freed = ("would go", "would be freed") if result.dry_run else ("went", "were freed")
    counts = f"{_count(result.segments, 'segment')} of {_count(result.videos, 'video')}"
    output.print(
        f"{counts} {went}, with {_count(result.frames, 'frame')}; {decimal(result.bytes_freed)} on the disk {freed}",
        soft_wrap=True,
    )
    if result.segments_unreadable:
        output.print(
            f"{result.segments_unreadable:,} segments stay: their events cannot be read (the log says why)"
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _table(result: Result) -> Table:
    table = Table(Column("video", no_wrap=True), "name", "segments", "frames", "on the disk")
    for share in result.by_video:
        table.add_row(
            share.video_id,
            share.video_name,
            f"{share.segments:,}",
            f"{share.frames:,}",
            decimal(share.bytes_freed),
        )
    if result.videos > len(result.by_video):
        table.add_row("…", f"{result.videos - len(result.by_video):,} more", "", "", "")
    return table
