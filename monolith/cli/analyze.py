"""Analyses videos and brings the results: a table for people, files, annotated frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import Progress

from monolith.cli.annotated import Folder, annotated_frames, is_video, write_annotated_video
from monolith.cli.client import AnalysisClient, VideoStatus
from monolith.cli.exits import CliError, Exit
from monolith.cli.progress import VideoBar, analysis_bars, counting_bar, frames_bar
from monolith.cli.session import Request, Session
from monolith.cli.summary import Summarizer, Summary
from monolith.readmodels.export import Export, Format

_CANCEL_SECONDS: Final = 5.0
_END_SECONDS: Final = 15.0
"""For what a live source has given to be analysed, after Ctrl-C."""
_UPLOADS: Final = 2
"""Files that are sent to a server at the same time."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What to make of the results. `annotated`: an `.mp4` file or a folder."""

    out: Path | None = None
    out_format: Format = "json"
    annotated: Path | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one source. `exit`: OK, or how it failed, with `error` for users."""

    source: str
    exit: Exit
    error: str | None = None
    status: VideoStatus | None = None
    summary: Summary | None = None


async def analyze_all(
    session: Session, requests: Sequence[Request], wishes: Wishes, console: Console
) -> list[Outcome]:
    """Analyse all at once, each with a progress bar on `console`; one outcome for each, in order.

    Cancelled (Ctrl-C), it cancels the analyses too; live sources are ended in order, and where all are live their
    outcomes count. Raises CliError where no result can be kept.
    """
    with analysis_bars(console) as bars:
        outcomes = await _run_all(session, requests, bars)
    collected = []
    async with _export(wishes) as export:
        for number, outcome in enumerate(outcomes):
            annotated = _annotated_path(wishes.annotated, outcome, number, alone=len(outcomes) == 1)
            collected.append(await _collect(session.client, outcome, export, annotated, console))
    return collected


def exit_of(outcomes: Sequence[Outcome]) -> Exit:
    """Of several failures the first one counts."""
    return next((outcome.exit for outcome in outcomes if outcome.exit is not Exit.OK), Exit.OK)


async def _run_all(session: Session, requests: Sequence[Request], bars: Progress) -> list[Outcome]:
    uploads = asyncio.Semaphore(_UPLOADS)
    tasks: list[asyncio.Task[Outcome]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(_run(session, request, bars, uploads)) for request in requests]
    except asyncio.CancelledError:
        if len(tasks) < len(requests) or any(task.cancelled() for task in tasks):
            raise
        _forget_cancellation()  # all were live, and have ended in order
    return [task.result() for task in tasks]


async def _run(session: Session, request: Request, bars: Progress, uploads: asyncio.Semaphore) -> Outcome:
    """From the submission to the end of the analysis."""
    bar = VideoBar(bars, request.name or request.source.rstrip("/").rpartition("/")[2])
    try:
        async with uploads:
            video_id = await session.submit(request, bar.sent)
        try:
            status = await _followed(session.client, video_id, bar)
        except asyncio.CancelledError:
            status = await _ended_with_us(session.client, video_id, bar)
    except CliError as error:
        bar.failed()
        return Outcome(source=request.source, exit=error.code, error=str(error))
    if status.status == "Completed":
        return Outcome(source=request.source, exit=Exit.OK, status=status)
    bar.failed()
    # What was never even probed is no video that could be read.
    code = Exit.BAD_SOURCE if status.media is None else Exit.FAILED
    return Outcome(
        source=request.source, exit=code, error=status.error or "the analysis failed", status=status
    )


async def _followed(client: AnalysisClient, video_id: str, bar: VideoBar) -> VideoStatus:
    status: VideoStatus | None = None
    async for status in client.follow(video_id):
        bar.analysed(status)
    assert status is not None
    return status


async def _ended_with_us(client: AnalysisClient, video_id: str, bar: VideoBar) -> VideoStatus:
    """Ctrl-C ends the analysis, too: otherwise it would go on at the program's next start. What a live source has given
    is waited for; otherwise raises CancelledError."""
    with contextlib.suppress(CliError, TimeoutError):
        async with asyncio.timeout(_CANCEL_SECONDS):
            live = (await client.status(video_id)).live
            await client.cancel(video_id)
        if live:
            bar.ending()
            async with asyncio.timeout(_END_SECONDS):
                status = await _followed(client, video_id, bar)
            _forget_cancellation()
            return status
    raise asyncio.CancelledError


def _forget_cancellation() -> None:
    """The task was cancelled and goes on all the same."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


@contextlib.asynccontextmanager
async def _export(wishes: Wishes) -> AsyncIterator[Export | None]:
    """The table that takes all results; None when no one wants it."""
    if wishes.out is None:
        yield None
        return
    export = Export(wishes.out, wishes.out_format)
    with _disk_errors(wishes.out):
        await asyncio.to_thread(export.open)
        try:
            yield export
            await asyncio.to_thread(export.commit)
        finally:
            await asyncio.to_thread(export.close)


async def _collect(
    client: AnalysisClient, outcome: Outcome, export: Export | None, annotated: Path | None, console: Console
) -> Outcome:
    """The outcome with its summary; its rows go to `export`, its frames to `annotated`."""
    if outcome.status is None:
        return outcome
    summarizer, timestamps = Summarizer(), dict[int, float]()
    async for rows in client.rows(outcome.status.video_id):
        summarizer.add(rows)
        timestamps.update((row.frame_number, row.video_timestamp) for row in rows)
        if export is not None:
            await asyncio.to_thread(export.write, rows)
    if annotated is not None and timestamps:
        with _disk_errors(annotated):
            await _annotate(client, outcome.status, timestamps, annotated, console)
    return msgspec.structs.replace(outcome, summary=summarizer.result())


async def _annotate(
    client: AnalysisClient, status: VideoStatus, timestamps: dict[int, float], path: Path, console: Console
) -> None:
    """Write the annotated frames, with a progress bar."""
    name = f"annotating {status.video_name}"
    if is_video(path):
        with frames_bar(console, name, len(timestamps)) as watch:
            await write_annotated_video(client, status.video_id, path, watch)
        return
    frames = annotated_frames(client, status.video_id, timestamps)
    async with contextlib.aclosing(frames):
        folder = await asyncio.to_thread(Folder, path)
        with counting_bar(console, name, len(timestamps)) as advance:
            async for number, _, jpeg in frames:
                await asyncio.to_thread(folder.write, number, jpeg)
                advance()


def _annotated_path(wished: Path | None, outcome: Outcome, number: int, *, alone: bool) -> Path | None:
    """Of several videos each gets a folder of its own."""
    if wished is None or alone:
        return wished
    stem = Path(outcome.source.rstrip("/").rpartition("/")[2]).stem
    return wished / f"{number + 1:03d}-{stem}"


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Files that cannot be written are the user's surroundings, not a fault of the analysis."""
    try:
        yield
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror or error}", Exit.ENVIRONMENT) from error
