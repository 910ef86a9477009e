"""The commands `export`, `timeline` and `summary`: through the server that holds the data directory, else over the data
directory itself, without the engines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
from rich.console import Console
from rich.filesize import decimal

from eventsourcing.errors import EventStoreError
from monolith.cli.analyzing import models_of
from monolith.cli.annotated import write_annotated_video
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.cli.findings import show_summary, show_timeline
from monolith.cli.progress import frames_bar
from monolith.cli.running import print_json
from monolith.cli.session import remote_http, serving_url
from monolith.datadir import DataDirError
from monolith.settings import Settings

_PATHS: Final = {
    "json": "results?format=json",
    "ndjson": "results?format=ndjson",
    "csv": "results?format=csv",
    "parquet": "results?format=parquet",
    "arrow": "results?format=arrow",
    "coco": "coco.json?",
    "vtt": "subtitles.vtt?",
}
"""Format → where the API gives it."""
_VIDEO: Final = "mp4"
FORMATS: Final = (*_PATHS, _VIDEO)
_ENDINGS: Final = {
    ".coco.json": "coco", ".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv",
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".arrows": "arrow", ".vtt": "vtt", ".mp4": _VIDEO,
}  # fmt: skip
_STANDARD_OUTPUT: Final = "-"


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which detections are wanted, as options say it; None: all."""

    models: str | None = None
    run: str | None = None
    from_frame: int | None = None
    to_frame: int | None = None
    from_time: float | None = None
    to_time: float | None = None
    min_confidence: float | None = None
    label: str | None = None

    @property
    def query(self) -> list[tuple[str, str]]:
        """As the API takes them. Raises CliError for an unknown model."""
        values = msgspec.structs.asdict(self)
        models = values.pop("models")
        named = [] if models is None else [("model", key) for key in models_of(models)]
        return named + [(name, str(value)) for name, value in values.items() if value is not None]


def format_of(out: Path, asked: str | None) -> str:
    """The format that is asked for, else the one that the file's ending names. Raises CliError."""
    if asked is None and str(out) == _STANDARD_OUTPUT:
        return "json"
    if asked is None:
        name = out.name.lower()
        asked = next((form for ending, form in _ENDINGS.items() if name.endswith(ending)), None)
        if asked is None:
            raise CliError(
                f"the ending of {out.name} names no format; --format takes {', '.join(FORMATS)}", Exit.USAGE
            )
    if asked not in FORMATS:
        raise CliError(f"{asked!r} is no format; --format takes {', '.join(FORMATS)}", Exit.USAGE)
    if asked == _VIDEO and str(out) == _STANDARD_OUTPUT:
        raise CliError("an mp4 goes to a file; name one with --out", Exit.USAGE)
    return asked


async def export_program(
    settings: Settings, video_id: str, out: Path, form: str, filters: Filters, errors: Console
) -> Exit:
    """Write what was found in a video to `out` (`-`: standard output). Raises CliError."""
    query = filters.query
    try:
        if form == _VIDEO:
            _refuse_for_video(filters)
            await _annotated(settings, video_id, out, query, errors)
            return Exit.OK
        async with open_reading(settings) as client:
            path = f"/analysis/{video_id}/{_PATHS[form]}&{urlencode(query)}"
            size = await _download(client, path.rstrip("&"), out)
    except OSError as error:
        raise CliError(f"{out} cannot be written: {error.strerror or error}", Exit.ENVIRONMENT) from error
    if str(out) != _STANDARD_OUTPUT:
        errors.print(f"{out}: {decimal(size)}", soft_wrap=True)
    return Exit.OK


def _refuse_for_video(filters: Filters) -> None:
    """Raises CliError for filters that an annotated video does not know."""
    for name in ("from_frame", "to_frame", "label"):
        if getattr(filters, name) is not None:
            option = "--" + name.replace("_", "-")
            raise CliError(
                f"{option} does not go with mp4, which takes --models, --run, --from-time, --to-time and "
                "--min-confidence",
                Exit.USAGE,
            )


async def _annotated(
    settings: Settings, video_id: str, out: Path, options: Sequence[tuple[str, str]], errors: Console
) -> None:
    async with open_reading(settings) as client:
        status = await client.status(video_id)
        with frames_bar(errors, status.video_name, status.frames_analyzed) as watch:
            await write_annotated_video(client, video_id, out, watch, options)


async def _download(client: AnalysisClient, path: str, out: Path) -> int:
    """Bytes written; `out` gets its name when all is there."""
    if str(out) == _STANDARD_OUTPUT:
        return await client.download(path, sys.stdout.buffer)
    part = out.with_name(f"{out.name}.part")
    await asyncio.to_thread(out.parent.mkdir, parents=True, exist_ok=True)
    try:
        with await asyncio.to_thread(part.open, "wb") as file:
            size = await client.download(path, file)
        await asyncio.to_thread(part.replace, out)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)
    return size


async def timeline_program(
    settings: Settings, video_id: str, bucket: str, filters: Filters, output: Console | None
) -> Exit:
    """Show what was found when: on `output`, or (None) as JSON on standard output. Raises CliError."""
    query = urlencode([("bucket", bucket), *filters.query])
    return await _show(settings, f"/analysis/{video_id}/timeline?{query}", show_timeline, output)


async def summary_program(
    settings: Settings, video_id: str, filters: Filters, output: Console | None
) -> Exit:
    """Show what was found in all of a video, as `timeline_program` does."""
    query = urlencode(filters.query)
    return await _show(settings, f"/analysis/{video_id}/summary?{query}", show_summary, output)


async def _show(
    settings: Settings, path: str, show: Callable[[Console, Any], None], output: Console | None
) -> Exit:
    async with open_reading(settings) as client:
        found = await client.call("GET", path, dict[str, Any])
    if output is None:
        print_json(found)
    else:
        show(output, found)
    return Exit.OK


@asynccontextmanager
async def open_reading(settings: Settings) -> AsyncIterator[AnalysisClient]:
    """The server that holds the data directory, else an API in this process that only reads. Raises CliError."""
    server = serving_url(settings.data_dir)
    if server is not None:
        async with remote_http(settings, server) as http:
            yield AnalysisClient(http)
        return
    # Imported here: a server's client does not need the web framework.
    from monolith.bootstrap.reading import reading_alone
    from monolith.cli.asgi import StreamingTransport

    try:
        async with reading_alone(settings) as app:
            transport = StreamingTransport(app)
            async with httpx.AsyncClient(transport=transport, base_url=settings.url) as http:
                yield AnalysisClient(http)
    except (DataDirError, EventStoreError, TimeoutError) as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error
