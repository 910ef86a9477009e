"""Serves a running program over HTTP, until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from monolith.access.startup import describe_tls, known_to_this_machine, open_tls
from monolith.api.http_protocol import ClientConnections
from monolith.api.server import ApiServer
from monolith.bootstrap.program import Program
from monolith.service_manager import ServiceManager
from monolith.settings_loading import service_manager
from monolith.shutdown import Ending

logger = logging.getLogger(__name__)


@asynccontextmanager
async def serving(program: Program) -> AsyncIterator[tuple[ApiServer, str]]:
    """The HTTP server over a running program, and its URL.

    Raises OSError when the address cannot be used, AccessError when the certificate cannot.
    """
    settings = program.settings
    tls = await asyncio.to_thread(open_tls, settings)
    if tls is not None:
        logger.info("%s", describe_tls(tls))
    server = await ApiServer.start(
        program.app,
        stopping=program.services.stopping,
        host=settings.host,
        port=settings.port,
        graceful_seconds=max(1, int(settings.shutdown_deadline / 2)),  # the rest is for what ends after it
        clients=ClientConnections(settings.max_connections_per_client),
        tls=tls.context if tls else None,
    )
    try:
        async with known_to_this_machine(settings.data_dir.absolute(), program.local_token, tls):
            settings = settings.model_copy(update={"port": server.port})
            program.lock.announce(settings.local_url)
            yield server, settings.url
    finally:
        await server.stop()


async def serve(
    program: Program, ending: Ending, *, on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve HTTP until `ending` is asked for, by a signal too; `on_ready` is told the URL. Leaves `ending` begun.

    Raises OSError as `serving` does, and what ends the server by itself.
    """
    manager = ServiceManager(service_manager())
    ending.take_signals()
    _leave_alone_what_is_there()
    async with serving(program) as (server, url), _rtmp(program) as rtmp:
        ending.on_hurried = server.hurry
        on_ready(url)
        manager.ready(f"serving {url}")
        try:
            await _first_of(ending.asked.wait(), server.wait(), manager.keep_alive(), rtmp())
        finally:
            program.services.stopping.set()
            ending.begin()
            manager.stopping()


@asynccontextmanager
async def _rtmp(program: Program) -> AsyncIterator[Callable[[], Coroutine[Any, Any, object]]]:
    """RTMP beside HTTP. Gives what waits for its failure."""
    if program.rtmp is None:
        yield asyncio.Event().wait
        return
    async with program.rtmp.serving() as task:

        async def failure() -> None:
            await asyncio.shield(task)

        yield failure


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of `waits` ends, or raise what it raises; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _leave_alone_what_is_there() -> None:
    """What was made by now stays to the end. A collection of garbage that looked at it each time would hold the event
    loop for a tenth of a second."""
    gc.collect()
    gc.freeze()
