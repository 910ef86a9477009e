"""The command `retention`: by the server that holds the data directory, else in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from eventsourcing.errors import EventStoreError
from monolith.application.retention import Retention
from monolith.application.retention_report import RetentionReport, RetentionRequest
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.cli.running import print_json
from monolith.cli.session import open_session, serving_url
from monolith.datadir import DataDirError
from monolith.domain.errors import DomainError, InvalidRequestError
from monolith.settings import Settings

_POLL_SECONDS: Final = 0.2
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


class Worker(Protocol):
    """Who does it. Methods raise CliError."""

    @property
    def server(self) -> str | None: ...

    async def start(self, request: RetentionRequest) -> Result: ...

    async def result(self) -> Result: ...


class _Server:
    def __init__(self, client: AnalysisClient, server: str | None) -> None:
        self._client = client
        self.server = server

    async def start(self, request: RetentionRequest) -> Result:
        body = {"days": request.days, "dry_run": request.dry_run, "keep": sorted(request.keep)}
        return await self._client.call("POST", "/retention", Result, json=body)

    async def result(self) -> Result:
        last = (await self._client.call("GET", "/retention", _State)).last
        if last is None:
            raise CliError(f"the server at {self.server} was started again meanwhile", Exit.FAILED)
        return last


class _Here:
    server: str | None = None

    def __init__(self, retention: Retention) -> None:
        self._retention = retention

    async def start(self, request: RetentionRequest) -> Result:
        try:
            return _result_of(await self._retention.start(request))
        except DomainError as error:
            raise CliError(str(error), Exit.BAD_SOURCE) from error

    async def result(self) -> Result:
        assert self._retention.report is not None
        return _result_of(self._retention.report)


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
    async with _worker(settings) as worker:
        if worker.server:
            errors.print(f"working through the server at {worker.server}")
        result = await _watched(worker, request, errors)
    _show(result, output)
    if result.error is not None:
        raise CliError(result.error, Exit.FAILED)
    return Exit.OK


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[Worker]:
    if serving_url(settings.data_dir) is not None:
        async with open_session(settings) as session:
            yield _Server(session.client, session.server)
        return
    from monolith.bootstrap.retention import retaining_alone  # late: `--help` does without the event store

    try:
        async with retaining_alone(settings) as retention:
            yield _Here(retention)
    except (DataDirError, EventStoreError, OSError) as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error


async def _watched(worker: Worker, request: RetentionRequest, errors: Console) -> Result:
    """The result at the end."""
    with _bar(errors) as bar:
        task = bar.add_task(_PHASES["finding"], total=1.0, detail="")
        result = await worker.start(request)
        try:
            while True:
                detail = f"{result.segments:,} segments, {result.frames:,} frames"
                bar.update(task, description=_PHASES[result.phase], completed=result.progress, detail=detail)
                if result.state != "running":
                    return result
                await asyncio.sleep(_POLL_SECONDS)
                result = await worker.result()
        except asyncio.CancelledError:
            if worker.server:
                errors.print("the server goes on; GET /retention tells how far it is")
            raise


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
