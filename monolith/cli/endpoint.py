"""The commands `endpoint rtmp` and `endpoint webrtc`: a video that a publisher will bring, to the server that runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final, Literal, TypeAlias

import typer
from rich.console import Console

from monolith.cli.analyzing import models_of
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import EPILOG, CliError, Exit
from monolith.cli.running import DataDir, Json, print_json, quiet_settings, run_program
from monolith.cli.running import errors as _errors
from monolith.cli.session import remote_http, serving_url
from monolith.domain.models import MODEL_KEYS
from monolith.settings import Settings

Kind: TypeAlias = Literal["rtmp", "webrtc"]

endpoint_app = typer.Typer(
    no_args_is_help=True, help="Where publishers bring live video to.", rich_markup_mode="rich"
)

Models = Annotated[
    str | None,
    typer.Option(
        help=f"Models, separated by commas: {', '.join(MODEL_KEYS)}, or their beginnings. Default: all."
    ),
]
FrameStep = Annotated[int, typer.Option(min=1, help="Analyse every n-th frame.")]
Name = Annotated[str | None, typer.Option(help="Name of the video.")]

_FIELDS: Final[dict[Kind, dict[str, str]]] = {
    "rtmp": {"RTMP URL": "rtmp_endpoint"},
    "webrtc": {"WHIP endpoint": "whip_endpoint", "bearer token": "token"},
}


@endpoint_app.command(
    epilog="Examples: `video-analysis endpoint rtmp --name Stage --frame-step 5`, `ffmpeg -re -i clip.mp4 -c copy -f "
    f"flv $(video-analysis endpoint rtmp --json | jq -r .rtmp_endpoint)`. {EPILOG}"
)
def rtmp(
    models: Models = None,
    frame_step: FrameStep = 1,
    name: Name = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Makes an endpoint for OBS, FFmpeg, GStreamer, encoders, and prints its URL and stream key, this once."""
    _made("rtmp", quiet_settings(data_dir), models, frame_step, name, as_json=as_json)


@endpoint_app.command(
    epilog="Examples: `video-analysis endpoint webrtc --models objects --frame-step 3`, `video-analysis endpoint "
    f"webrtc --json`. {EPILOG}"
)
def webrtc(
    models: Models = None,
    frame_step: FrameStep = 1,
    name: Name = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Makes an endpoint for browsers and other WHIP clients, and prints its URL and token, this once."""
    _made("webrtc", quiet_settings(data_dir), models, frame_step, name, as_json=as_json)


def _made(
    kind: Kind, settings: Settings, models: str | None, frame_step: int, name: str | None, *, as_json: bool
) -> None:
    body = {"modelsToRun": models_of(models), "frameStep": frame_step, "videoName": name}
    answer = run_program(create_endpoint(settings, kind, {k: v for k, v in body.items() if v is not None}))
    if as_json:
        print_json(answer)
        return
    show(kind, answer, _errors)
    if not settings.serves_loopback_only and not settings.public_url:
        _errors.print(
            "the host in it is this machine as it names itself: others put its address there, or set"
            " VIDEO_ANALYSIS_PUBLIC_URL",
            soft_wrap=True,
        )


async def create_endpoint(settings: Settings, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    """The server's answer. Raises CliError, also where no server runs."""
    server = serving_url(settings.data_dir)
    if server is None:
        raise CliError(
            f"no server runs on the data directory {settings.data_dir}, and a publisher needs one: start it with"
            " `video-analysis serve`, or name its directory (--data-dir)",
            Exit.ENVIRONMENT,
        )
    async with remote_http(settings, server) as http:
        answer: dict[str, Any] = await AnalysisClient(http).call(
            "POST", f"/analysis/{kind}-endpoint", dict[str, Any], json=body
        )
        return answer


def show(kind: Kind, answer: dict[str, Any], errors: Console) -> None:
    """What a publisher needs on standard output, a line each; the rest on `errors`."""
    lines = {label: answer[field] for label, field in _FIELDS[kind].items()}
    if kind == "rtmp":
        folder, _, key = answer["rtmp_endpoint"].rpartition("/")
        lines |= {"server": folder, "stream key": key}
    for label, value in [*lines.items(), ("status", answer["status_url"])]:
        sys.stdout.write(f"{label}: {value}\n")
    sys.stdout.flush()
    errors.print(
        f"video {answer['video_id']} waits for its publisher; the secret in these lines is told this once",
        soft_wrap=True,
    )
