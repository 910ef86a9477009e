"""What users can do: submit, cancel, delete. An answer comes after the read model has seen the write."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import AbstractAsyncContextManager
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

import msgspec

from eventsourcing.errors import ProjectionStoppedError, StoreUnavailableError
from eventsourcing.store import EventStore
from monolith.application.ports import Clock, ReadModelGate, Secrets
from monolith.application.redaction import redacted
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import CancelRuns, DeleteVideo, SubmitVideo, VideoCommand
from monolith.domain.errors import InvalidRequestError, NotPossibleError, VideoNotFoundError
from monolith.domain.events import PushKind, SourceKind
from monolith.domain.ids import id_of, new_id
from monolith.domain.requests import check_frame_step, check_models, check_name, check_url
from monolith.domain.video import Video

_MAX_KEY_LENGTH: Final = 255
_SCRYPT_COST: Final = 2**14

logger = logging.getLogger(__name__)


class SubmissionUnknownError(StoreUnavailableError):
    """The event store failed in the midst: the submission may have been stored, or not."""


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a submission. `repeated`: the Idempotency-Key was used before; nothing new was started."""

    video_id: str
    run_id: str
    video_url: str
    video_name: str
    models: tuple[str, ...]
    frame_step: int
    repeated: bool


class FrameOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How new runs store and judge frames (see the settings of the same names)."""

    max_height: int
    jpeg_quality: int
    infer_from: str


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    kind: SourceKind
    location: str
    shown_url: str
    default_name: str
    digest: str | None = None
    secret_url: str | None = None
    """The URL to fetch, where it is not `location`."""


class VideoHandlers:
    """Use cases of the API and the command line. Raise DomainErrors (see `monolith.domain.errors`)."""

    def __init__(
        self,
        streams: VideoStreams,
        store: EventStore,
        gate: ReadModelGate,
        secrets: Secrets,
        options: FrameOptions,
        clock: Clock,
        *,
        gate_timeout: float = 10.0,
    ) -> None:
        self._streams = streams
        self._store = store
        self._gate = gate
        self._secrets = secrets
        self._options = options
        self._clock = clock
        self._gate_timeout = gate_timeout
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit_url(
        self,
        *,
        url: object,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Analyse the video behind an http(s) URL, or the camera behind an rtsp(s) one. What is secret in it is neither
        stored in events nor shown."""
        checked = check_url(url)
        shown = redacted(checked)
        source = _Source(
            kind="url",
            location=shown,
            shown_url=shown,
            default_name=_name_in(shown),
            digest=await _url_digest(checked, idempotency_key) if shown != checked else None,
            secret_url=checked if shown != checked else None,
        )
        return await self._submit(source, video_name, models, frame_step, idempotency_key)

    async def submit_upload(
        self,
        *,
        path: Path,
        file_name: str,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
        digest: str | None = None,
    ) -> Submitted:
        """Analyse an uploaded file that lies, synced, at `path` in the data directory; `digest`: of its bytes.

        It is ours from now on, unless the answer is `repeated`. After an error it is the caller's again, but after
        SubmissionUnknownError: then it stays, and the next start finds out whether it is needed.
        """
        base = PurePosixPath(file_name.replace("\\", "/")).name or "upload"
        source = _Source(
            kind="upload", location=str(path), shown_url=f"upload:{base}", default_name=base, digest=digest
        )
        return await self._submit(source, video_name, models, frame_step, idempotency_key)

    async def submit_file(
        self,
        *,
        path: Path,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Analyse a file of this machine where it lies; it is read, never moved or removed."""
        absolute = path.absolute()
        if not await asyncio.to_thread(absolute.is_file):
            raise InvalidRequestError(f"there is no file {str(path)!r}", field="path")
        source = _Source(
            kind="file", location=str(absolute), shown_url=absolute.as_uri(), default_name=absolute.name
        )
        return await self._submit(source, video_name, models, frame_step, idempotency_key)

    async def submit_push(
        self,
        *,
        kind: PushKind,
        secret: str,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """A video whose pictures a publisher will push, who knows `secret` (kept as secret URLs are; a repeat keeps the
        first one)."""
        source = _Source(
            kind=kind,
            location=f"{kind}:live",
            shown_url=f"{kind}:live",
            default_name=f"{kind} live",
            secret_url=secret,
        )
        return await self._submit(source, video_name, models, frame_step, idempotency_key)

    async def knows(self, idempotency_key: str) -> bool:
        """Whether a submission with this key was taken in: another one is answered from events and stores nothing."""
        return (await self._streams.load(_video_id(idempotency_key))).submitted is not None

    async def cancel(self, video_id: str, *, command_id: str | None = None) -> None:
        """End every unfinished run; what was analysed is kept. A live source ends in order first (see `CancelRuns`).
        Asked again with the same `command_id`, it does nothing more."""
        await self._existing(video_id)
        if command_id is not None and await self._streams.was_executed(video_id, command_id):
            return
        command = CancelRuns(at=self._clock(), reason="cancelled by the user")
        await self._decide(video_id, command, command_id=command_id)

    async def delete(self, video_id: str) -> None:
        """The video goes from every answer at once; its files and streams follow."""
        await self._existing(video_id)
        await self._decide(video_id, DeleteVideo(at=self._clock()))

    async def _existing(self, video_id: str) -> Video:
        video = await self._streams.load(video_id)
        if not video.exists:
            raise VideoNotFoundError(video_id)
        return video

    async def _submit(
        self,
        source: _Source,
        video_name: object,
        models: object,
        frame_step: object,
        idempotency_key: str | None,
    ) -> Submitted:
        command = SubmitVideo(
            at=self._clock(),
            video_id=_video_id(idempotency_key),
            run_id=new_id(),
            video_name=check_name(video_name, source.default_name),
            video_url=source.shown_url,
            source_kind=source.kind,
            location=source.location,
            models=check_models(models),
            frame_step=check_frame_step(frame_step),
            max_height=self._options.max_height,
            jpeg_quality=self._options.jpeg_quality,
            infer_from=self._options.infer_from,
            source_digest=source.digest,
        )
        if idempotency_key is None:
            return _answer(await self._store_new(command, source.secret_url), command)
        async with self._turn(command.video_id):
            video = await self._streams.load(command.video_id)
            if video.submitted is None:
                video = await self._store_new(command, source.secret_url)
        return _answer(video, command)

    def _turn(self, video_id: str) -> AbstractAsyncContextManager[object]:
        """Submissions with one Idempotency-Key go one after another: only the first may keep its URL."""
        return self._turns.setdefault(video_id, asyncio.Lock())

    async def _store_new(self, command: SubmitVideo, secret_url: str | None) -> Video:
        """The video, stored. What was kept for it goes when it is certain that it was not."""
        if secret_url is not None:
            await self._secrets.keep_url(command.video_id, secret_url)
        try:
            return await self._execute(command)
        except SubmissionUnknownError:
            raise
        except Exception:
            if secret_url is not None:
                await self._secrets.forget(command.video_id)
            raise

    async def _execute(self, command: SubmitVideo) -> Video:
        """Once the submission is stored the answer is yes, even where the read models are behind."""
        try:
            outcome = await self._streams.execute(command.video_id, command)
        except StoreUnavailableError as error:
            return await self._look_again(command, error)
        try:
            await self._until_seen(outcome.commit_position)
        except (TimeoutError, ProjectionStoppedError, StoreUnavailableError) as error:
            logger.warning("video %s is stored, but not visible yet: %r", command.video_id, error)
        return outcome.state

    async def _look_again(self, command: SubmitVideo, error: StoreUnavailableError) -> Video:
        """After a failed append: was it stored? Raises `error` if not, SubmissionUnknownError if nobody can tell."""
        try:
            video = await self._streams.load(command.video_id)
        except StoreUnavailableError:
            raise SubmissionUnknownError(
                f"{error}; the video may have been taken in: see GET /analysis/{command.video_id}"
            ) from error
        if video.submitted is None:
            raise error
        return video

    async def _decide(self, video_id: str, command: VideoCommand, *, command_id: str | None = None) -> None:
        outcome = await self._streams.execute(video_id, command, command_id=command_id)
        await self._until_seen(outcome.commit_position)

    async def _until_seen(self, commit_position: int | None) -> None:
        """Until the read models know what was written (None: all that is there). Raises TimeoutError."""
        position = commit_position or await self._store.head()
        if position is not None:
            await self._gate.wait_for(position, self._gate_timeout)


def _name_in(url: str) -> str:
    """The last part of the path; a camera may have no path, then its host."""
    parts = urlsplit(url)
    return unquote(PurePosixPath(parts.path).name) or parts.hostname or ""


async def _url_digest(url: str, idempotency_key: str | None) -> str | None:
    """To recognise a repeat of a URL that events must not hold. Slow by intent: its password may be a short one."""
    if idempotency_key is None:
        return None
    digest = await asyncio.to_thread(
        hashlib.scrypt, url.encode(), salt=idempotency_key.encode(), n=_SCRYPT_COST, r=8, p=1, dklen=32
    )
    return f"scrypt:{digest.hex()}"


def _video_id(idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return new_id()
    if not 1 <= len(idempotency_key) <= _MAX_KEY_LENGTH or not idempotency_key.isprintable():
        raise InvalidRequestError(
            f"Idempotency-Key must be 1 to {_MAX_KEY_LENGTH} printable characters", field="Idempotency-Key"
        )
    return str(id_of("idempotency-key", idempotency_key))


def _answer(video: Video, command: SubmitVideo) -> Submitted:
    """The first answer, also to a repeat. Raises NotPossibleError where the repeat asks for something else."""
    assert video.submitted is not None
    if video.deleted:
        raise NotPossibleError(
            "the video of this Idempotency-Key was deleted; use a new key to submit it again"
        )
    first = next(iter(video.runs.values())).request
    repeated = first.run_id != command.run_id
    if repeated and _asked(command) != (
        video.submitted.source_kind, video.submitted.video_name, first.models, first.frame_step,
    ):  # fmt: skip
        raise NotPossibleError(
            "this Idempotency-Key was used for a different submission; use a new key for a new submission"
        )
    if repeated and command.source_kind == "url" and command.location != video.submitted.location:
        raise NotPossibleError(
            f"this Idempotency-Key was used for {video.submitted.video_url}; use a new key for another URL"
        )
    if repeated and command.source_digest != (video.submitted.source_digest or command.source_digest):
        raise NotPossibleError(
            "this Idempotency-Key was used for another file, or for a URL that differs in what is not shown;"
            " use a new key for a new submission"
        )
    return Submitted(
        video_id=video.submitted.video_id,
        run_id=first.run_id,
        video_url=video.submitted.video_url,
        video_name=video.submitted.video_name,
        models=first.models,
        frame_step=first.frame_step,
        repeated=repeated,
    )


def _asked(command: SubmitVideo) -> tuple[SourceKind, str, tuple[str, ...], int]:
    return command.source_kind, command.video_name, command.models, command.frame_step
