"""Load a video, decide, append: every write to a `video-…` stream goes through here."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from eventsourcing.codec import EventCodec
from eventsourcing.decider import Outcome, StateCache, execute, load
from eventsourcing.store import EventStore, iterate_stream
from monolith.domain.commands import VideoCommand
from monolith.domain.decisions import VideoDecider
from monolith.domain.events import VideoEvent, video_stream
from monolith.domain.ids import id_of
from monolith.domain.video import Video

_DECIDER: Final = VideoDecider()
_MAX_ATTEMPTS: Final = 10
_CACHED_EVENTS: Final = 50_000
_CACHED_STATES: Final = 1000
"""Of the videos used last: some ten megabytes. A live video of a week has more than ten thousand events, one that was
cancelled before it began has three, and a state takes kilobytes."""


class VideoStreams:
    """The streams of all videos. Methods raise the decider's DomainErrors and EventStoreErrors."""

    def __init__(self, store: EventStore, codec: EventCodec) -> None:
        self._store = store
        self._codec = codec
        self._cache: StateCache[Video] = StateCache(_CACHED_EVENTS, _CACHED_STATES)

    async def load(self, video_id: str) -> Video:
        """The video as its stream tells; `submitted` is None for an unknown one."""
        stream = video_stream(video_id)
        return (await load(self._store, self._codec, _DECIDER, stream, cache=self._cache)).state

    async def was_executed(self, video_id: str, command_id: str) -> bool:
        """Whether a command of this id has caused something."""
        first = _event_id(video_id, command_id, 0).bytes
        stream = video_stream(video_id)
        return any([event.id_bytes == first async for event in iterate_stream(self._store, stream)])

    async def execute(
        self, video_id: str, command: VideoCommand, *, command_id: str | None = None
    ) -> Outcome[Video, VideoEvent]:
        """Decide on `command` and append the answer, deciding again when another writer came first.

        `command_id`: given by who asked for it; its events have ids that follow from it (see `was_executed`).
        """
        ids = None if command_id is None else lambda _, index: _event_id(video_id, command_id, index)
        return await execute(
            self._store,
            self._codec,
            _DECIDER,
            video_stream(video_id),
            command,
            metadata={"correlation_id": video_id},
            event_ids=ids,
            max_attempts=_MAX_ATTEMPTS,
            cache=self._cache,
        )


def _event_id(video_id: str, command_id: str, index: int) -> UUID:
    return id_of("command", video_id, command_id, index)
