"""The application's ports over the drivers: same calls, and the drivers' errors turned into the application's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from eventsourcing.projection import ProjectionRunner
from monolith.application.errors import (
    EnvironmentFailure,
    FrameRefusedError,
    RetryableFailure,
    SourceFailure,
)
from monolith.application.ports import DecodeRequest, DecoderMessage, FollowMessage
from monolith.domain.events import Transport
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import SourceInfo
from monolith.inference.errors import FrameKillsWorkerError, InferenceError, InferenceUnavailableError
from monolith.inference.messages import FrameRef, FrameResult
from monolith.inference.service import InferenceService
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import IngestError, SourceError
from monolith.ingest.fetch import Fetcher, FetchError
from monolith.ingest.messages import FollowSource, SourceAccess, StartSegment
from monolith.ingest.sessions import DecodeSession, FollowSession


class PoolDecoders:
    """The `Decoders` port."""

    def __init__(self, pool: DecoderPool, *, probe_deadline: float) -> None:
        self._pool = pool
        self._probe_deadline = probe_deadline

    async def probe(self, path: Path, scan_path: Path, segment_seconds: float) -> SourceInfo:
        with _decoding():
            return await self._pool.probe(path, scan_path, segment_seconds, timeout=self._probe_deadline)

    def open(self, request: DecodeRequest) -> AbstractAsyncContextManager[TranslatedSession]:
        return self._open(request)

    @asynccontextmanager
    async def _open(self, request: DecodeRequest) -> AsyncIterator[TranslatedSession]:
        with _decoding():
            async with self._pool.open(request) as session:
                yield TranslatedSession(session)

    async def probe_source(self, access: SourceAccess) -> SourceInfo:
        with _decoding():
            return await self._pool.probe_source(access)

    def follow(self, request: FollowSource) -> AbstractAsyncContextManager[TranslatedFollowSession]:
        return self._follow(request)

    @asynccontextmanager
    async def _follow(self, request: FollowSource) -> AsyncIterator[TranslatedFollowSession]:
        with _decoding():
            async with self._pool.follow(request) as session:
                yield TranslatedFollowSession(session)


class TranslatedSession:
    """The `DecodeSession` port."""

    def __init__(self, session: DecodeSession) -> None:
        self._session = session

    @property
    def outstanding_slots(self) -> frozenset[int]:
        return frozenset(self._session.outstanding_slots)

    async def lend(self, slots: Sequence[int]) -> None:
        with _decoding():
            await self._session.lend(slots)

    async def __aiter__(self) -> AsyncIterator[DecoderMessage]:
        with _decoding():
            async for message in self._session:
                yield message


class TranslatedFollowSession:
    """The `FollowSession` port."""

    def __init__(self, session: FollowSession) -> None:
        self._session = session

    @property
    def outstanding_slots(self) -> frozenset[int]:
        return self._session.outstanding_slots

    async def lend(self, slots: Sequence[int]) -> None:
        with _decoding():
            await self._session.lend(slots)

    async def start_segment(self, start: StartSegment) -> None:
        with _decoding():
            await self._session.start_segment(start)

    async def cancel(self) -> None:
        with _decoding():
            await self._session.cancel()

    async def __aiter__(self) -> AsyncIterator[FollowMessage]:
        with _decoding():
            async for message in self._session:
                yield message


class PooledInference:
    """The `Inference` port."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    @property
    def identities(self) -> dict[str, ModelIdentity]:
        return self._service.identities

    async def infer(self, model_key: str, frame: FrameRef, *, key: str) -> FrameResult:
        try:
            return await self._service.infer(model_key, frame, key=key)
        except FrameKillsWorkerError as error:
            raise FrameRefusedError(str(error)) from error
        except InferenceUnavailableError as error:
            raise EnvironmentFailure(f"no frame can be judged now: {error}") from error
        except InferenceError as error:
            raise RetryableFailure(f"inference failed: {error}") from error


class CheckedFetcher:
    """The `Fetcher` port. The fetcher has tried again as often as makes sense: its failures are final."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def fetch(self, url: str, target: Path) -> int:
        try:
            return (await self._fetcher.fetch(url, target)).size
        except FetchError as error:
            raise SourceFailure(str(error)) from error

    async def transport_of(self, url: str) -> Transport:
        try:
            return await self._fetcher.transport_of(url)
        except FetchError as error:
            raise SourceFailure(str(error)) from error


class ProjectionGate:
    """The `ReadModelGate` port."""

    def __init__(self, runner: ProjectionRunner) -> None:
        self._runner = runner

    async def wait_for(self, commit_position: int, timeout: float) -> None:
        await self._runner.wait_for(commit_position, timeout)


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        failure = SourceFailure if error.permanent else RetryableFailure
        raise failure(str(error)) from error
    except IngestError as error:
        raise RetryableFailure(f"decoding failed: {error}") from error
