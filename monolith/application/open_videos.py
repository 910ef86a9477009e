"""Which videos have something left to do, kept from event to event without decoding any.

A snapshot spares a restart the reading of all that was finished long ago. It may be old, or lost: the events after it,
or all of them, give the same counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec

from eventsourcing.events import RecordedEvent
from eventsourcing.store import EventStore

PREFIX: Final = "video-"
_PAGE: Final = 1000
_OPENED_BY: Final = {"RunRequested", "SegmentsExpired", "VideoDeleted"}
_CLOSED_BY: Final = {"RunCompleted", "RunFailed", "RunCancelled", "SegmentsPurged", "VideoPurged"}


class Snapshot(msgspec.Struct, frozen=True):
    """`counts`: for each open video, beginnings (runs, expiries, deletion) less ends, up to `position` inclusive."""

    position: int | None = None
    counts: dict[str, int] = {}


class Snapshots(Protocol):
    """Where the newest snapshot is kept."""

    async def load(self) -> Snapshot:
        """An empty one if there is none that can be read."""
        ...

    async def save(self, snapshot: Snapshot) -> None: ...


class OpenVideos:
    """The counts so far, and the position that they are of."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.position = snapshot.position
        self._counts = dict(snapshot.counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[str]:
        """The ids of open videos, those that opened first coming first."""
        return iter(tuple(self._counts))

    def note(self, events: Iterable[RecordedEvent]) -> None:
        """Count further events of `video-…` streams, in commit order."""
        for event in events:
            self.position = event.commit_position
            change = (event.event_type in _OPENED_BY) - (event.event_type in _CLOSED_BY)
            if change:
                self._change(video_id_of(event), change)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.position, dict(self._counts))

    def _change(self, video_id: str, change: int) -> None:
        left = self._counts.get(video_id, 0) + change
        if left > 0:
            self._counts[video_id] = left
        else:
            self._counts.pop(video_id, None)


def video_id_of(event: RecordedEvent) -> str:
    """The video that an event of a `video-…` stream is about."""
    return event.stream_name.removeprefix(PREFIX)


async def load_open_videos(store: EventStore, snapshots: Snapshots) -> OpenVideos:
    """The counts as they were kept, brought up to the newest event; from the start, where they are of another store."""
    snapshot = await snapshots.load()
    head = await store.head()
    known = snapshot.position is not None and head is not None and snapshot.position <= head
    videos = OpenVideos(snapshot if known else Snapshot())
    while events := await store.read_all(after=videos.position, prefixes=(PREFIX,), limit=_PAGE):
        videos.note(events)
    return videos
