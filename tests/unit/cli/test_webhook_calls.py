"""What the commands of webhooks show."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rich.console import Console

from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.cli.webhook_calls import (
    add_webhook,
    dismiss_parked,
    enable_webhook,
    remove_webhook,
    replay_parked,
    show_parked,
    show_webhooks,
    try_webhook,
)
from monolith.domain.webhook import DisableWebhook, ParkDelivery
from monolith.webhooks.directory import WebhookStreams
from tests.peers.receiver import closed_url, receiver
from tests.unit.api.harness import Api, running_api

MESSAGE = "0199aaaa-0000-7000-8000-00000000000f"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path) as running:
        yield running


def shown(output: Console) -> str:
    """What was printed since the last look."""
    assert isinstance(output.file, io.StringIO)
    text = output.file.getvalue()
    output.file.truncate(0)
    output.file.seek(0)
    return text


async def hook_of(client: AnalysisClient, url: str) -> str:
    await add_webhook(client, url, ["RunCompleted"], "[dashboard]", as_json=False)
    return str((await client.call("GET", "/webhooks", list[dict[str, object]]))[0]["webhook_id"])


async def test_a_life_of_a_webhook(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    client, output = AnalysisClient(api.client), Console(file=io.StringIO(), width=60)
    await show_webhooks(client, output)
    assert shown(output) == "there are none; `webhooks add` adds one\n"
    hook = await hook_of(client, closed_url())
    told = capsys.readouterr()
    assert told.out.startswith("whsec_")
    assert hook in told.err
    await show_webhooks(client, output)
    lines = shown(output).splitlines()
    assert lines[0].startswith(f"{hook}  active, since 20")
    assert lines[1] == f"    RunCompleted to {closed_url()}: [dashboard]"
    assert await try_webhook(client, hook, output) is Exit.FAILED
    assert shown(output).startswith("not delivered: the receiver cannot be reached")
    await remove_webhook(client, hook, output)
    with pytest.raises(CliError, match="there is no webhook"):
        await remove_webhook(client, hook, output)


async def test_what_is_parked_is_shown_replayed_and_dismissed(api: Api) -> None:
    client, output = AnalysisClient(api.client), Console(file=io.StringIO(), width=60)
    hook = await hook_of(client, closed_url())
    await show_parked(client, hook, output)
    assert shown(output) == "none is parked\n"
    streams = WebhookStreams(api.store)
    parked = ParkDelivery(
        at=time.time(), webhook_id=hook, message_id=MESSAGE, event_type="RunCompleted", stream_name="video-x",
        stream_position=3, attempts=9, reason="it [failed]",
    )  # fmt: skip
    await streams.execute(hook, parked)
    await streams.execute(hook, DisableWebhook(at=time.time(), webhook_id=hook, reason="gone"))
    await enable_webhook(client, hook, output)
    assert shown(output) == f"webhook {hook} is active\n"
    await show_parked(client, hook, output)
    first, second = shown(output).splitlines()
    assert first == f"{MESSAGE}  RunCompleted (video-x@3)"
    assert second.endswith(": it [failed]")
    await replay_parked(client, hook, [MESSAGE], output)
    assert shown(output) == "parked deliveries that are tried again: 1\n"
    await show_parked(client, hook, output)
    assert "is being tried again" in shown(output)
    await dismiss_parked(client, hook, [], output)
    assert await client.call("GET", f"/webhooks/{hook}/parked", list[object]) == []


async def test_json_is_json(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    client = AnalysisClient(api.client)
    async with receiver() as there:
        await add_webhook(client, there.url, ["*"], "", as_json=True)
        assert '"secret": "whsec_' in capsys.readouterr().out
        await show_webhooks(client, None)
        assert '"status": "active"' in capsys.readouterr().out
        hook = str((await client.call("GET", "/webhooks", list[dict[str, object]]))[0]["webhook_id"])
        assert await try_webhook(client, hook, None) is Exit.OK
        assert '"delivered": true' in capsys.readouterr().out
        await show_parked(client, hook, None)
        assert capsys.readouterr().out == "[]\n"
