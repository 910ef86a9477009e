"""The command line `video-analysis`. Every command is thin: it reads its options and hands on."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from monolith.cli.doctor import EXAMPLES, doctor
from monolith.cli.endpoint import endpoint_app
from monolith.cli.exits import EPILOG, CliError, Exit
from monolith.cli.exporting import add_commands
from monolith.cli.keys import keys_app
from monolith.cli.running import DataDir, Json, print_json, quiet_settings
from monolith.cli.running import errors as _errors
from monolith.cli.running import load as _load
from monolith.cli.running import log_to as _log_to
from monolith.cli.running import output as _output
from monolith.cli.running import run_program as _run
from monolith.cli.webhooks import webhooks_app
from monolith.domain.models import MODEL_KEYS
from monolith.logs import logs_json
from monolith.settings import Settings
from monolith.settings_loading import variable

app = typer.Typer(
    name="video-analysis",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Finds objects, faces with their emotions, and colours in videos.",
    epilog=EPILOG,
)
models_app = typer.Typer(no_args_is_help=True, help="The models and their weights.", rich_markup_mode="rich")
app.add_typer(models_app, name="models")
app.command(epilog=EXAMPLES)(doctor)
app.add_typer(keys_app, name="keys")
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(endpoint_app, name="endpoint")

Models = Annotated[
    str | None,
    typer.Option(
        help=f"Models, separated by commas: {', '.join(MODEL_KEYS)}, or their beginnings. Default: all."
    ),
]
FrameStep = Annotated[int, typer.Option(min=1, help="Analyse every n-th frame.")]


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda wanted: _print_version(wanted),
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        number = version("video-analysis")
    except PackageNotFoundError:
        number = "from its source folder"
    _output.print(f"video-analysis {number}")
    raise typer.Exit


@app.command(
    epilog=f"Examples: `video-analysis serve --port 8080`, `video-analysis serve --analyze clip.mp4`. {EPILOG}"
)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port to listen on.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Inference processes; 0: as many as fit.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or f32.")] = None,
    allowed_networks: Annotated[
        str | None, typer.Option(help="Networks, by commas, that videos may come from besides public ones.")
    ] = None,
    keep_sources: Annotated[bool | None, typer.Option(help="Keep fetched and uploaded videos.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address under which users reach the server.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    auth: Annotated[
        str | None, typer.Option(help="Whether requests need an API key: auto, on or off.")
    ] = None,
    tls_certificate: Annotated[str | None, typer.Option(help="PEM file to serve HTTPS with.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of its private key.")] = None,
    tls_self_signed: Annotated[
        bool | None, typer.Option("--tls-self-signed", help="Serve HTTPS with a certificate made here.")
    ] = None,
    analyze: Annotated[
        list[str] | None, typer.Option("--analyze", help="Analyse this file or URL first; may be repeated.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the analyses.")] = False,
    more: Annotated[list[str] | None, typer.Argument(metavar="[VIDEO]...", help="More to analyse.")] = None,
) -> None:
    """Serves the API and the web page until Ctrl-C.

    All else is a setting (`video-analysis settings`): KurrentDB and a folder for several copies, RabbitMQ, limits.
    """
    from monolith.cli.serving import serve_program

    sources = [*(analyze or []), *(more or [])]
    if once and not sources:
        raise CliError("--once needs something to analyse: --analyze VIDEO", Exit.USAGE)
    loaded = _load(
        host=host, port=port, data_dir=data_dir, workers=workers, precision=precision, keep_sources=keep_sources,
        allowed_networks=allowed_networks, public_url=public_url, log_level=log_level,
        auth=auth, tls_certificate=tls_certificate, tls_key=tls_key, tls_self_signed=tls_self_signed,
    )  # fmt: skip
    _log_to(loaded.settings)
    raise typer.Exit(_run(serve_program(loaded.settings, sources, once=once, errors=_errors)))


@app.command(
    epilog=f"Examples: `video-analysis analyze clip.mp4`, `video-analysis analyze *.mp4 --models objects "
    f"--frame-step 5 --out found.parquet`, `video-analysis analyze https://example.org/clip.mp4 --annotated "
    f"clip-annotated.mp4 --json`, `video-analysis analyze rtsp://camera.local/live --frame-step 10` (until Ctrl-C). "
    f"{EPILOG}"
)
def analyze(
    sources: Annotated[
        list[str], typer.Argument(metavar="FILE|URL...", help="Videos, playlists, cameras; several at once.")
    ],
    models: Models = None,
    frame_step: FrameStep = 1,
    name: Annotated[str | None, typer.Option(help="Name of the video (one video only).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every detection to this file: .json, .ndjson, .csv or .parquet."),
    ] = None,
    out_format: Annotated[
        str | None, typer.Option("--format", help="Format of --out: json, ndjson, csv or parquet.")
    ] = None,
    annotated: Annotated[
        Path | None,
        typer.Option(help="Write the frames with what was found drawn in: an .mp4 file, or a folder."),
    ] = None,
    as_json: Json = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep a fetched video file in the data directory, too.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Analyses videos without a server, or through the one that holds the data directory."""
    from monolith.cli.analyzing import analyze_program, requests_of, wishes_of

    requests = requests_of(sources, models=models, frame_step=frame_step, name=name)
    wishes = wishes_of(out, out_format, annotated, several=len(requests) > 1)
    loaded = _load(data_dir=data_dir, keep_sources=keep or None)
    quiet = loaded.origins["log_level"] == "default"
    _log_to(loaded.settings, "warning" if quiet else None)
    output = None if as_json else _output
    raise typer.Exit(_run(analyze_program(loaded.settings, requests, wishes, output, _errors)))


@app.command(
    epilog=f"Examples: `video-analysis rebuild`, `video-analysis rebuild --projection read-models --json`. {EPILOG}"
)
def rebuild(
    projections: Annotated[
        list[str] | None,
        typer.Option("--projection", metavar="NAME", help="Only this one; may be repeated. Default: all."),
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Builds what answers are made from again, from all events; the server, if one runs, goes on serving."""
    from monolith.cli.rebuild import rebuild_program

    settings = quiet_settings(data_dir)
    output = None if as_json else _output
    raise typer.Exit(_run(rebuild_program(settings, projections or [], output, _errors)))


@app.command(
    epilog=f"Examples: `video-analysis retention --days 30 --dry-run`, `video-analysis retention --days 7.5 --keep "
    f"0197c0de-0000-7000-8000-000000000001`. {EPILOG}"
)
def retention(
    days: Annotated[
        float, typer.Option(help="Let go of segments in which nothing happened for so many days.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="VIDEO", help="Id of a video of which nothing goes; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Needed for --days 0, which lets all go.")] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Lets go of frames, results and files that are older than a number of days; sums stay. Nothing is asked."""
    from monolith.cli.retention import request_of, retention_program

    request = request_of(days, dry_run=dry_run, keep=keep or [], yes=yes)
    settings = quiet_settings(data_dir)
    output = None if as_json else _output
    raise typer.Exit(_run(retention_program(settings, request, output, _errors)))


add_commands(app)


@models_app.command("list", epilog="Example: `video-analysis models list --json`.")
def models_list(as_json: Json = False) -> None:
    """Shows the models."""
    from monolith.inference.models.catalogue import CATALOGUE

    if as_json:
        print_json([msgspec.to_builtins(spec) | {"digest": spec.digest} for spec in CATALOGUE.values()])
        return
    table = Table("model", "network", "shown from", "weights")
    for key, spec in CATALOGUE.items():
        weights = "\n".join(file.name for file in spec.files) or "none: computed"
        table.add_row(key, f"{spec.name} {spec.version}", f"{spec.threshold:.0%}", weights)
    _output.print(table)


@models_app.command(
    "verify", epilog="Example: `video-analysis models verify`. Exit code 1: a file is not right."
)
def models_verify(as_json: Json = False) -> None:
    """Compares every weight file with its sha256."""
    from monolith.inference.models.catalogue import verify

    checks = verify()
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        for check in checks:
            what = "ok" if check.ok else "missing" if check.actual is None else f"has sha256 {check.actual}"
            _output.print(f"{check.file}: {what}")
    raise typer.Exit(Exit.OK if all(check.ok for check in checks) else Exit.FAILED)


@app.command(
    epilog="Examples: `video-analysis settings`, `VIDEO_ANALYSIS_PORT=8080 video-analysis settings --json`."
)
def settings(as_json: Json = False) -> None:
    """Shows every setting, its value, and where the value came from."""
    loaded = _load()
    values = loaded.settings.model_dump(mode="json")
    if as_json:
        print_json(
            {k: {"value": v, "origin": loaded.origins[k], "variable": variable(k)} for k, v in values.items()}
        )
        return
    setting = Column("setting", no_wrap=True)
    table = Table(setting, "value", "origin", "meaning", title=f"file: {loaded.file or 'none'}")
    for name, value in values.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        meaning = Settings.model_fields[name].description or ""
        table.add_row(variable(name), escape(shown), loaded.origins[name], meaning)
    _output.print(table)


def main() -> None:
    """Entry point. Ends the process with an exit code of `Exit`."""
    try:
        app(prog_name="video-analysis")
    except CliError as error:
        _end(str(error), error.code)
    except KeyboardInterrupt:
        _end("interrupted", Exit.INTERRUPTED)
    except ExceptionGroup as error:
        logging.getLogger(__name__).debug("failed", exc_info=error)
        _end("\n".join(f"{type(e).__name__}: {e}" for e in _leaves(error)), Exit.FAILED)
    except Exception:
        if not logs_json():
            raise
        logging.getLogger(__name__).critical("the program failed", exc_info=True)
        sys.exit(Exit.FAILED)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _end(text: str, code: Exit) -> None:
    if logs_json():
        logging.getLogger(__name__).error("%s", text)
        sys.exit(code)
    for line in text.splitlines():
        _errors.print(f"[red]video-analysis:[/red] {escape(line)}", soft_wrap=True)
    sys.exit(code)
