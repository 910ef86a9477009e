"""What users can do: submit, cancel, delete. An answer comes after the read model has seen the write."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from eventsourcing.store import EventStore
from monolith.application.ports import Clock, ReadModelGate, Secrets
from monolith.application.video_stream import VideoStreams
from monolith.domain.commands import CancelRuns, DeleteVideo, SubmitVideo, VideoCommand
from monolith.domain.errors import InvalidRequestError, NotPossibleError, VideoNotFoundError
from monolith.domain.events import SourceKind
from monolith.domain.ids import id_of, new_id
from monolith.domain.requests import check_frame_step, check_models, check_name, check_url
from monolith.domain.video import Video

_MAX_KEY_LENGTH = 255


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

    async def submit_url(
        self,
        *,
        url: object,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Analyse the video file behind an http(s) URL."""
        checked = check_url(url)
        name = unquote(PurePosixPath(urlsplit(checked).path).name)
        shown = redacted(checked)
        source = _Source(kind="url", location=shown, shown_url=shown, default_name=name)
        secret = checked if shown != checked else None
        return await self._submit(source, video_name, models, frame_step, idempotency_key, secret=secret)

    async def submit_upload(
        self,
        *,
        path: Path,
        file_name: str,
        video_name: object = None,
        models: object,
        frame_step: object = None,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Analyse an uploaded file that lies, synced, at `path` in the data directory. It is ours from now on."""
        base = PurePosixPath(file_name.replace("\\", "/")).name or "upload"
        source = _Source(kind="upload", location=str(path), shown_url=f"upload:{base}", default_name=base)
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
        if not absolute.is_file():
            raise InvalidRequestError(f"there is no file {str(path)!r}", field="path")
        source = _Source(
            kind="file", location=str(absolute), shown_url=absolute.as_uri(), default_name=absolute.name
        )
        return await self._submit(source, video_name, models, frame_step, idempotency_key)

    async def cancel(self, video_id: str) -> None:
        """End every unfinished run; what was analysed is kept."""
        await self._existing(video_id)
        await self._decide(video_id, CancelRuns(at=self._clock(), reason="cancelled by the user"))

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
        *,
        secret: str | None = None,
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
        )
        if secret is not None:
            await self._secrets.keep_url(command.video_id, secret)
        video = await self._decide(command.video_id, command)
        return _answer(video, command)

    async def _decide(self, video_id: str, command: VideoCommand) -> Video:
        outcome = await self._streams.execute(video_id, command)
        position = outcome.commit_position or await self._store.head()
        if position is not None:
            await self._gate.wait_for(position, self._gate_timeout)
        return outcome.state


def redacted(url: str) -> str:
    """The URL without its password, for events, logs and answers."""
    parts = urlsplit(url)
    if parts.password is None and parts.username is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"***@{host}"))


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
