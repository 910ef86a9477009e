"""The command `analyze`: from its options to its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape

from monolith.cli.analyze import Outcome, Wishes, analyze_all, exit_of
from monolith.cli.client import VideoStatus
from monolith.cli.exits import CliError, Exit
from monolith.cli.running import print_json
from monolith.cli.session import Request, open_session
from monolith.cli.summary import Summary, show
from monolith.domain.models import MODEL_KEYS
from monolith.readmodels.export import FORMATS, Format, format_of
from monolith.settings import Settings


class VideoReport(msgspec.Struct, frozen=True, kw_only=True):
    """One video in the output of `--json`."""

    source: str
    exit_code: int
    error: str | None
    analysis: VideoStatus | None
    found: Summary | None


async def analyze_program(
    settings: Settings, requests: Sequence[Request], wishes: Wishes, output: Console | None, errors: Console
) -> Exit:
    """Analyse, and show what was found: on `output`, or (None) as JSON on standard output. Raises CliError."""
    async with open_session(settings) as session:
        if session.server:
            errors.print(f"working through the server at {session.server}")
        outcomes = await analyze_all(session, requests, wishes, errors)
    if output is None:
        reports = [_report(outcome) for outcome in outcomes]
        print_json({"videos": reports})
    show_outcomes(outcomes, output, errors)
    return exit_of(outcomes)


def show_outcomes(outcomes: Sequence[Outcome], output: Console | None, errors: Console) -> None:
    """Tables on `output` (if any), failures on `errors`."""
    for outcome in outcomes:
        status, summary = outcome.status, outcome.summary
        if (
            output is not None
            and status is not None
            and summary is not None
            and (summary.frames or not outcome.error)
        ):
            show(output, status, summary)
        if outcome.error is not None:
            errors.print(f"[red]{escape(outcome.source)}[/red]: {escape(outcome.error)}", soft_wrap=True)


def requests_of(
    sources: Sequence[str], *, models: str | None, frame_step: int, name: str | None
) -> list[Request]:
    """What the options ask for. Raises CliError for wrong usage or a file that is not there."""
    if name is not None and len(sources) > 1:
        raise CliError("--name is for one video; there are several", Exit.USAGE)
    keys = models_of(models)
    requests = [Request(source=s, name=name, models=keys, frame_step=frame_step) for s in sources]
    for request in requests:
        if request.path is not None and not request.path.is_file():
            what = "is a folder, not a video" if request.path.is_dir() else "is not there"
            raise CliError(
                f"{request.source} {what}; name a video file, or an http(s) or rtsp(s) URL", Exit.BAD_SOURCE
            )
    return requests


def models_of(names: str | None) -> list[str]:
    """Model keys of names separated by commas; a beginning such as `objects` is enough. Raises CliError."""
    if names is None:
        return list(MODEL_KEYS)
    return list(dict.fromkeys(_model(part.strip()) for part in names.split(",")))


def _model(name: str) -> str:
    found = [key for key in MODEL_KEYS if name and key.startswith(name)]
    if len(found) != 1:
        known = ", ".join(MODEL_KEYS)
        raise CliError(f"there is no model {name!r}; --models takes {known}, or their beginnings", Exit.USAGE)
    return found[0]


def wishes_of(out: Path | None, out_format: str | None, annotated: Path | None, *, several: bool) -> Wishes:
    """Raises CliError for a format that cannot be told, or one file for several videos."""
    if annotated is not None and several and annotated.suffix.lower() == ".mp4":
        raise CliError("--annotated takes a folder when there are several videos", Exit.USAGE)
    if out is None:
        if out_format is not None:
            raise CliError("--format is the format of --out; name that file, too", Exit.USAGE)
        return Wishes(annotated=annotated)
    return Wishes(out=out, out_format=_format(out, out_format), annotated=annotated)


def _format(out: Path, asked: str | None) -> Format:
    known = next((f for f in FORMATS if f == asked), None) if asked is not None else format_of(out)
    if known is None:
        what = f"{asked!r} is no format" if asked is not None else f"the ending of {out.name} names no format"
        raise CliError(f"{what}; --format takes {', '.join(FORMATS)}", Exit.USAGE)
    return known


def _report(outcome: Outcome) -> VideoReport:
    return VideoReport(
        source=outcome.source,
        exit_code=outcome.exit,
        error=outcome.error,
        analysis=outcome.status,
        found=outcome.summary,
    )
