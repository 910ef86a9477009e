"""The command `serve`: the server, and what it analyses first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from rich.console import Console

from monolith.access.errors import AccessError
from monolith.access.startup import check_access, open_tls
from monolith.cli.analyze import Wishes, analyze_all, exit_of
from monolith.cli.analyzing import requests_of, show_outcomes
from monolith.cli.exits import CliError, Exit
from monolith.cli.session import Request, Session, local_session, open_program, open_session, serving_url
from monolith.logs import logs_json
from monolith.settings import Settings
from monolith.shutdown import Ending

logger = logging.getLogger(__name__)


async def serve_program(settings: Settings, sources: Sequence[str], *, once: bool, errors: Console) -> Exit:
    """Serve until a signal; analyse `sources` first and, with `once`, end then. Raises CliError."""
    requests = requests_of(sources, models=None, frame_step=1, name=None)
    running = serving_url(settings.data_dir)
    if running is not None and requests:
        errors.print(f"a server runs already at {running}: it analyses")
        async with open_session(settings) as session:
            return await _analyze(session, requests, running, errors)
    return await _serve(settings, requests, once=once, errors=errors)


async def _serve(settings: Settings, requests: Sequence[Request], *, once: bool, errors: Console) -> Exit:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def tell(url: str) -> None:
        if logs_json():
            logger.info("serving %s", url)
        else:
            errors.print(f"serving {url} (Ctrl-C ends it)", soft_wrap=True)
        ready.set_result(url)

    ending = Ending(settings.shutdown_deadline)
    await _check_access(settings)
    async with open_program(settings) as program:
        from monolith.bootstrap.serving import serve  # late, as in `open_program`

        async with local_session(program) as session:
            serving = asyncio.create_task(serve(program, ending, on_ready=tell), name="HTTP server")
            analysing = asyncio.create_task(_analyze_when(ready, session, requests, errors), name="analyses")
            try:
                return await _until_done(serving, analysing, once=once)
            except OSError as error:
                words = f"{settings.local_url} cannot be served: {error.strerror or error}"
                raise CliError(f"{words}; name another --port or --host", Exit.ENVIRONMENT) from error
            finally:
                for task in (analysing, serving):
                    task.cancel()
                    await asyncio.wait({task})


async def _check_access(settings: Settings) -> None:
    """What would end the start later is told before the engines are loaded. Raises CliError."""
    try:
        await check_access(settings)
        await asyncio.to_thread(open_tls, settings)
    except AccessError as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error


async def _until_done(serving: asyncio.Task[None], analysing: asyncio.Task[Exit], *, once: bool) -> Exit:
    """Until a signal has ended the server, or (`once`) the analyses are done. Raises what ended either."""
    await asyncio.wait({serving, analysing}, return_when=asyncio.FIRST_COMPLETED)
    if not analysing.done():
        serving.result()
        return Exit.INTERRUPTED
    code = analysing.result()
    if not once:
        await serving
        return Exit.OK
    return code


async def _analyze_when(
    ready: asyncio.Future[str], session: Session, requests: Sequence[Request], errors: Console
) -> Exit:
    """Begin when the server is there, so that the addresses shown lead somewhere."""
    url = await ready
    return await _analyze(session, requests, url, errors) if requests else Exit.OK


async def _analyze(session: Session, requests: Sequence[Request], url: str, errors: Console) -> Exit:
    """Analyse, show what was found and where to see it."""
    outcomes = await analyze_all(session, requests, Wishes(), errors)
    show_outcomes(outcomes, Console(highlight=False), errors)
    for outcome in outcomes:
        if outcome.status is not None:
            address = f"{url}/analysis/{outcome.status.video_id}"
            errors.print(f"{outcome.status.video_name}: {address}/results", soft_wrap=True)
    errors.print(f"web page: {url}/", soft_wrap=True)
    return exit_of(outcomes)
