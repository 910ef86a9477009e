"""What the commands `webhooks …` ask of the API, and how they show it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape

from monolith.cli.client import AnalysisClient
from monolith.cli.exits import Exit
from monolith.cli.running import errors, print_json

_PLACE: Final = "/webhooks"
_PAGE: Final = 1000
_DAY: Final = len("2026-01-31")
_SECOND: Final = len("2026-01-31T12:00:00")


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook, as the API shows it."""

    webhook_id: str
    url: str
    events: list[str]
    description: str
    ts: str
    status: str
    reason: str | None
    parked: int
    replaying: int


class _Added(Hook, frozen=True, kw_only=True):
    secret: str


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was given up, as the API shows it."""

    message_id: str
    event_type: str
    stream_name: str
    stream_position: int
    attempts: int
    reason: str
    ts: str
    replaying: bool


class _Tested(msgspec.Struct, frozen=True, kw_only=True):
    delivered: bool
    status: int | None
    failure: str | None
    seconds: float


class _Replaying(msgspec.Struct, frozen=True):
    replaying: int


async def add_webhook(
    client: AnalysisClient, url: str, events: Sequence[str], description: str, *, as_json: bool
) -> Exit:
    body = {"url": url, "events": list(events), "description": description}
    added = await client.call("POST", _PLACE, _Added, json=body)
    if as_json:
        print_json(added)
        return Exit.OK
    errors.print(
        f"The webhook {added.webhook_id} gets {', '.join(added.events)}; this is the only time that its secret is"
        " shown:",
        soft_wrap=True,
    )
    sys.stdout.write(f"{added.secret}\n")
    return Exit.OK


async def show_webhooks(client: AnalysisClient, output: Console | None) -> Exit:
    hooks = await client.call("GET", _PLACE, list[Hook])
    if output is None:
        print_json(hooks)
        return Exit.OK
    for hook in hooks:
        state = hook.status if hook.reason is None else f"{hook.status} ({hook.reason})"
        output.print(
            f"{hook.webhook_id}  {escape(state)}, since {hook.ts[:_DAY]}, {hook.parked} parked",
            soft_wrap=True,
        )
        words = f": {hook.description}" if hook.description else ""
        output.print(f"    {', '.join(hook.events)} to {escape(hook.url + words)}", soft_wrap=True)
    if not hooks:
        output.print("there are none; `webhooks add` adds one")
    return Exit.OK


async def remove_webhook(client: AnalysisClient, webhook_id: str, output: Console) -> Exit:
    await client.send("DELETE", f"{_PLACE}/{webhook_id}")
    output.print(f"nothing is sent to webhook {escape(webhook_id)} any more", soft_wrap=True)
    return Exit.OK


async def enable_webhook(client: AnalysisClient, webhook_id: str, output: Console) -> Exit:
    hook = await client.call("POST", f"{_PLACE}/{webhook_id}/enable", Hook)
    output.print(f"webhook {hook.webhook_id} is {hook.status}", soft_wrap=True)
    return Exit.OK


async def try_webhook(client: AnalysisClient, webhook_id: str, output: Console | None) -> Exit:
    tested = await client.call("POST", f"{_PLACE}/{webhook_id}/test", _Tested)
    if output is None:
        print_json(tested)
    elif tested.delivered:
        output.print(f"the receiver answered {tested.status} after {tested.seconds:g} s")
    else:
        output.print(f"not delivered: {escape(tested.failure or '')}", soft_wrap=True)
    return Exit.OK if tested.delivered else Exit.FAILED


async def show_parked(client: AnalysisClient, webhook_id: str, output: Console | None) -> Exit:
    parked = await client.call("GET", f"{_PLACE}/{webhook_id}/parked?limit={_PAGE}", list[Parked])
    if output is None:
        print_json(parked)
        return Exit.OK
    for one in parked:
        place = f"{one.event_type} ({one.stream_name}@{one.stream_position})"
        now = ", is being tried again" if one.replaying else ""
        output.print(f"{one.message_id}  {place}", soft_wrap=True)
        reason = f"    {one.attempts} attempts until {one.ts[:_SECOND]}{now}: {one.reason}"
        output.print(escape(reason), soft_wrap=True)
    if not parked:
        output.print("none is parked")
    return Exit.OK


async def replay_parked(
    client: AnalysisClient, webhook_id: str, message_ids: Sequence[str], output: Console
) -> Exit:
    place = f"{_PLACE}/{webhook_id}/replay"
    answer = await client.call("POST", place, _Replaying, json=_body(message_ids))
    output.print(f"parked deliveries that are tried again: {answer.replaying}")
    return Exit.OK


async def dismiss_parked(
    client: AnalysisClient, webhook_id: str, message_ids: Sequence[str], output: Console
) -> Exit:
    await client.send("DELETE", f"{_PLACE}/{webhook_id}/parked", json=_body(message_ids))
    output.print("they are forgotten")
    return Exit.OK


def _body(message_ids: Sequence[str]) -> dict[str, list[str]]:
    return {"message_ids": list(message_ids)} if message_ids else {}
