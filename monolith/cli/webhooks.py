"""The options of the commands `webhooks …`. The server that holds the data directory works, else this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer

from monolith.cli.client import AnalysisClient
from monolith.cli.exits import EPILOG, Exit
from monolith.cli.running import DataDir, Json, output, quiet_settings, run_program

_AN_ID: Final = "0197c0de-0000-7000-8000-000000000002"
_HOOK: Final = "https://example.org/hook"

webhooks_app = typer.Typer(
    no_args_is_help=True, help="Receivers that are told of events over HTTP.", rich_markup_mode="rich"
)

WebhookId = Annotated[str, typer.Argument(metavar="ID", help="As `webhooks list` shows it.")]
MessageIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MESSAGE_ID]...", help="Only these, as `webhooks parked` shows them. Default: all."
    ),
]


@webhooks_app.command(
    epilog=f"Examples: `video-analysis webhooks add {_HOOK} --event RunCompleted --event RunFailed`, "
    f"`SECRET=$(video-analysis webhooks add {_HOOK} --event '*' --description dashboard)`. {EPILOG}"
)
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are POSTed to: http or https.")],
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            help="Name of an event, or * for all; may be repeated. Default: RunCompleted, RunFailed.",
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Sends events to a receiver from now on; prints the secret that signs them, this once."""
    from monolith.cli.webhook_calls import add_webhook

    names = events or ["RunCompleted", "RunFailed"]
    _do(lambda client: add_webhook(client, url, names, description, as_json=as_json), data_dir)


@webhooks_app.command("list", epilog="Example: `video-analysis webhooks list --json`.")
def list_webhooks(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Shows the webhooks there are."""
    from monolith.cli.webhook_calls import show_webhooks

    _do(lambda client: show_webhooks(client, None if as_json else output), data_dir)


@webhooks_app.command(epilog=f"Example: `video-analysis webhooks remove {_AN_ID}`.")
def remove(webhook_id: WebhookId, data_dir: DataDir = None) -> None:
    """Sends a receiver nothing any more."""
    from monolith.cli.webhook_calls import remove_webhook

    _do(lambda client: remove_webhook(client, webhook_id, output), data_dir)


@webhooks_app.command(epilog=f"Example: `video-analysis webhooks enable {_AN_ID}`.")
def enable(webhook_id: WebhookId, data_dir: DataDir = None) -> None:
    """Sends to a webhook again that was disabled; it goes on where it was."""
    from monolith.cli.webhook_calls import enable_webhook

    _do(lambda client: enable_webhook(client, webhook_id, output), data_dir)


@webhooks_app.command(
    epilog=f"Example: `video-analysis webhooks test {_AN_ID}`. Exit code 1: the receiver did not take it."
)
def test(webhook_id: WebhookId, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Sends a receiver a message of its own, once."""
    from monolith.cli.webhook_calls import try_webhook

    _do(lambda client: try_webhook(client, webhook_id, None if as_json else output), data_dir)


@webhooks_app.command(epilog=f"Example: `video-analysis webhooks parked {_AN_ID} --json`.")
def parked(webhook_id: WebhookId, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Shows deliveries that were given up, and why."""
    from monolith.cli.webhook_calls import show_parked

    _do(lambda client: show_parked(client, webhook_id, None if as_json else output), data_dir)


@webhooks_app.command(epilog=f"Examples: `video-analysis webhooks replay {_AN_ID}`, with ids: only these.")
def replay(webhook_id: WebhookId, message_ids: MessageIds = None, data_dir: DataDir = None) -> None:
    """Has the server try deliveries again that were given up."""
    from monolith.cli.webhook_calls import replay_parked

    _do(lambda client: replay_parked(client, webhook_id, message_ids or [], output), data_dir)


@webhooks_app.command(epilog=f"Examples: `video-analysis webhooks dismiss {_AN_ID}`, with ids: only these.")
def dismiss(webhook_id: WebhookId, message_ids: MessageIds = None, data_dir: DataDir = None) -> None:
    """Forgets deliveries that were given up."""
    from monolith.cli.webhook_calls import dismiss_parked

    _do(lambda client: dismiss_parked(client, webhook_id, message_ids or [], output), data_dir)


def _do(call: Callable[[AnalysisClient], Awaitable[Exit]], data_dir: DataDir) -> None:
    from monolith.cli.export import open_reading

    settings = quiet_settings(data_dir)

    async def program() -> Exit:
        async with open_reading(settings) as client:
            return await call(client)

    raise typer.Exit(run_program(program()))
