"""Where the command line finds the program: the server that holds the data directory, else this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import httpx
import msgspec

from eventsourcing.errors import StoreUnavailableError
from monolith.access.errors import AccessError
from monolith.access.keys import CredentialError, parse_key
from monolith.access.local import LocalAccess, find
from monolith.access.tls import client_context
from monolith.cli.client import AnalysisClient
from monolith.cli.exits import CliError, Exit
from monolith.datadir import DataDirError, held_by
from monolith.domain.errors import DomainError
from monolith.inference.errors import WorkerStartError
from monolith.settings import Settings

if TYPE_CHECKING:
    from monolith.bootstrap.program import Program

SendProgress: TypeAlias = Callable[[int, int], None]
"""Bytes sent to the server, bytes of the file."""


_URLS: Final = ("http://", "https://", "rtsp://", "rtsps://")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to analyse: an http(s) or rtsp(s) URL, or a file's path. `models`: keys; frames with n % frame_step == 0."""

    source: str
    name: str | None
    models: Sequence[str]
    frame_step: int

    @property
    def path(self) -> Path | None:
        """None for a URL."""
        return None if self.source.lower().startswith(_URLS) else Path(self.source).absolute()


class Session(Protocol):
    """A program to work with. `server`: its URL when it is another process."""

    @property
    def client(self) -> AnalysisClient: ...

    @property
    def server(self) -> str | None: ...

    async def submit(self, request: Request, sent: SendProgress) -> str:
        """The video's id. Raises CliError."""
        ...


class RemoteSession:
    """Works through a server: files are uploaded."""

    def __init__(self, client: AnalysisClient, server: str) -> None:
        self.client = client
        self.server: str | None = server

    async def submit(self, request: Request, sent: SendProgress) -> str:
        name, models, frame_step = request.name, request.models, request.frame_step
        if request.path is None:
            return await self.client.start(request.source, name=name, models=models, frame_step=frame_step)
        return await self.client.upload(
            request.path, name=name, models=models, frame_step=frame_step, progress=sent
        )


class LocalSession:
    """Works with a program in this process: files are analysed where they lie."""

    server: str | None = None

    def __init__(self, client: AnalysisClient, program: Program) -> None:
        self.client = client
        self._program = program

    async def submit(self, request: Request, sent: SendProgress) -> str:
        if request.path is None:
            return await self.client.start(
                request.source, name=request.name, models=request.models, frame_step=request.frame_step
            )
        try:
            submitted = await self._program.handlers.submit_file(
                path=request.path,
                video_name=request.name,
                models=request.models,
                frame_step=request.frame_step,
            )
        except DomainError as error:
            raise CliError(str(error), Exit.BAD_SOURCE) from error
        return submitted.video_id


@asynccontextmanager
async def open_session(settings: Settings) -> AsyncIterator[Session]:
    """The server that holds the data directory, or a program that lives as long as this context. Raises CliError."""
    server = serving_url(settings.data_dir)
    if server is not None:
        async with remote_http(settings, server) as http:
            yield RemoteSession(AnalysisClient(http), server)
        return
    async with open_program(settings) as program, local_session(program) as session:
        yield session


def remote_http(settings: Settings, server: str) -> httpx.AsyncClient:
    """For requests to the server that holds the data directory: with the key of the settings, else the one that the
    server keeps for this user, trusting exactly its certificate. Raises CliError."""
    access = find(settings.data_dir) or LocalAccess(token="")
    headers = _key_headers(settings.api_key.get_secret_value() or access.token)
    verify = client_context(access.certificate) if access.certificate else True
    return httpx.AsyncClient(base_url=server, headers=headers, verify=verify, trust_env=False)


def _key_headers(key: str) -> dict[str, str]:
    if not key:
        return {}
    try:
        parse_key(key)
    except CredentialError as error:
        raise CliError(f"VIDEO_ANALYSIS_API_KEY: {error}", Exit.ENVIRONMENT) from error
    return {"X-API-Key": key.strip()}


def serving_url(data_dir: Path) -> str | None:
    """The URL of the server that holds the data directory; None when no one does. Raises CliError."""
    try:
        holder = held_by(data_dir)
    except DataDirError as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error
    if holder is not None and not holder.url:
        raise CliError(
            f"process {holder.pid} works in the data directory {data_dir} and takes no requests; wait until it ends, "
            f"or use another directory (--data-dir)",
            Exit.ENVIRONMENT,
        )
    return holder.url if holder else None


@asynccontextmanager
async def open_program(settings: Settings) -> AsyncIterator[Program]:
    """The program in this process, until the context ends. Raises CliError."""
    # Imported here: it brings the web framework and the engines, which `--help` and a server's client do not need.
    from monolith.bootstrap.program import running_program

    failure: Exception | None = None
    try:
        async with running_program(settings) as program:
            try:
                yield program
            except Exception as error:  # kept out of the program's task group, which would wrap it
                failure = error
    except (DataDirError, AccessError, WorkerStartError, StoreUnavailableError) as error:
        raise CliError(str(error), Exit.ENVIRONMENT) from error
    if failure is not None:
        raise failure


@asynccontextmanager
async def local_session(program: Program) -> AsyncIterator[Session]:
    """The API of a program in this process, without a socket."""
    transport = httpx.ASGITransport(app=program.app)
    headers = _key_headers(program.local_token)
    async with httpx.AsyncClient(transport=transport, base_url=program.settings.url, headers=headers) as http:
        yield LocalSession(AnalysisClient(http), program)
