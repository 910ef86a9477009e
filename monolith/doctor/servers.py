"""The servers that several copies of the program share: whether they can be used from here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import aio_pika
from aio_pika.exceptions import AMQPError, ProbableAuthenticationError

from eventsourcing.errors import EventStoreError
from monolith.doctor.findings import Finding, ok, problem, warning
from monolith.messaging.connection import MessageBroker
from monolith.settings import Settings
from monolith.settings_loading import variable

_ASK_SECONDS: Final = 6.0


def kurrentdb(settings: Settings) -> Iterator[Finding]:
    """Connects as the program does: what it may not do there is found, too."""
    uri = settings.kurrentdb_uri.get_secret_value()
    if not uri:
        yield ok("KurrentDB", "not used: events are in the data directory")
        return
    help = f"check {variable('kurrentdb_uri')} and {variable('kurrentdb_ca')}, and that the server runs"
    try:
        head = asyncio.run(_head(settings, uri))
    except (EventStoreError, ValueError, OSError, TimeoutError) as error:
        yield problem("KurrentDB", str(error) or f"no answer within {_ASK_SECONDS:g} s", help)
        return
    yield ok(
        "KurrentDB",
        "answers; it holds no events" if head is None else f"answers; its newest event is at {head}",
    )
    if settings.shared_dir is None:
        text = f"{variable('shared_dir')} is not set: stored frames and uploads lie in this copy's own folder"
        yield warning("KurrentDB", text, "name a folder that all copies see, unless there is one copy only")


async def _head(settings: Settings, uri: str) -> int | None:
    from eventsourcing.adapters.kurrentdb import KurrentDbEventStore  # late: it takes time to load

    certificates = settings.kurrentdb_ca.read_bytes() if settings.kurrentdb_ca is not None else None
    async with asyncio.timeout(_ASK_SECONDS):
        store = await KurrentDbEventStore.open(uri, root_certificates=certificates)
        try:
            return await store.head()
        finally:
            await store.close()


def rabbitmq(settings: Settings) -> Iterator[Finding]:
    url = settings.rabbitmq_url.get_secret_value()
    if not url:
        yield ok("RabbitMQ", "not used: this program tells no broker, and shares no segments")
        return
    shown = MessageBroker(url).shown
    try:
        asyncio.run(_connect(url))
    except ProbableAuthenticationError:
        yield problem("RabbitMQ", f"{shown} refuses the user or the password", _check_url())
    except (AMQPError, OSError, ValueError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        yield problem("RabbitMQ", f"{shown} cannot be used: {reason}", f"{_check_url()}, and that it runs")
    else:
        yield ok("RabbitMQ", f"{shown} answers")


def _check_url() -> str:
    return f"check {variable('rabbitmq_url')}"


async def _connect(url: str) -> None:
    async with asyncio.timeout(_ASK_SECONDS):
        connection = await aio_pika.connect(url)
        await connection.close()
