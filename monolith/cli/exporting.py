"""The commands `export`, `timeline` and `summary`: their options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from monolith.cli.exits import EPILOG
from monolith.cli.running import DataDir, Json, errors, output, quiet_settings, run_program

_AN_ID: Final = "0197c0de-0000-7000-8000-000000000001"

VideoId = Annotated[str, typer.Argument(metavar="VIDEO_ID", help="Id of a video that was analysed.")]
Run = Annotated[
    str | None, typer.Option(help="Only this run. Default: for each model its newest that is done.")
]
OnlyModels = Annotated[
    str | None, typer.Option("--models", help="Only these, separated by commas, or their beginnings.")
]
FromTime = Annotated[float | None, typer.Option(help="From this second of the video on.")]
ToTime = Annotated[float | None, typer.Option(help="Up to this second of the video.")]
MinConfidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="Detections from here on, instead of each model's default.")
]


def export(
    video_id: VideoId,
    out: Annotated[Path, typer.Option(help="File to write; -: standard output.")] = Path("-"),
    out_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="json, ndjson, csv, parquet, arrow, coco, vtt or mp4. Default: by the ending of --out, else json.",
        ),
    ] = None,
    models: OnlyModels = None,
    run: Run = None,
    from_frame: Annotated[int | None, typer.Option(min=0, help="From this frame on.")] = None,
    to_frame: Annotated[int | None, typer.Option(min=0, help="Up to this frame.")] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    min_confidence: MinConfidence = None,
    label: Annotated[str | None, typer.Option(help="Only this label, emotion or colour.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Writes what was found in a video to a file."""
    from monolith.cli.export import Filters, export_program, format_of

    form = format_of(out, out_format)
    filters = Filters(
        models=models, run=run, from_frame=from_frame, to_frame=to_frame, from_time=from_time, to_time=to_time,
        min_confidence=min_confidence, label=label,
    )  # fmt: skip
    settings = quiet_settings(data_dir)
    raise typer.Exit(run_program(export_program(settings, video_id, out, form, filters, errors)))


def timeline(
    video_id: VideoId,
    bucket: Annotated[str, typer.Option(help="Seconds of one line, or auto.")] = "auto",
    models: OnlyModels = None,
    run: Run = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    min_confidence: MinConfidence = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Shows what was found in a video when."""
    from monolith.cli.export import Filters, timeline_program

    filters = Filters(
        models=models, run=run, from_time=from_time, to_time=to_time, min_confidence=min_confidence
    )
    shown = None if as_json else output
    raise typer.Exit(
        run_program(timeline_program(quiet_settings(data_dir), video_id, bucket, filters, shown))
    )


def summary(
    video_id: VideoId,
    models: OnlyModels = None,
    run: Run = None,
    min_confidence: MinConfidence = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Shows what was found in all of a video, and by which models."""
    from monolith.cli.export import Filters, summary_program

    filters = Filters(models=models, run=run, min_confidence=min_confidence)
    shown = None if as_json else output
    raise typer.Exit(run_program(summary_program(quiet_settings(data_dir), video_id, filters, shown)))


def add_commands(app: typer.Typer) -> None:
    examples: dict[Callable[..., None], str] = {
        export: f"Examples: `video-analysis export {_AN_ID} --out found.parquet`, "
        f"`video-analysis export {_AN_ID} --format ndjson --label car`.",
        timeline: f"Example: `video-analysis timeline {_AN_ID} --bucket 60`.",
        summary: f"Example: `video-analysis summary {_AN_ID} --json`.",
    }
    for command, example in examples.items():
        app.command(epilog=f"{example} {EPILOG}")(command)
