"""What the application needs of the world. Each port is small and owned here; adapters are wired by `bootstrap`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence, Set
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from monolith.domain.events import Transport
from monolith.domain.jobs import SegmentJob
from monolith.domain.models import ModelIdentity
from monolith.domain.segment import SourceInfo
from monolith.domain.video import Video
from monolith.inference.messages import FrameRef, FrameResult
from monolith.ingest.messages import (
    Connected,
    DecodeSegment,
    FollowSource,
    FrameReady,
    FramesLost,
    PackSynced,
    Progress,
    ReadStored,
    SegmentCut,
    SegmentDone,
    SourceAccess,
    StartSegment,
)

Clock: TypeAlias = Callable[[], float]
"""Unix time in seconds."""

DecodeRequest: TypeAlias = DecodeSegment | ReadStored
DecoderMessage: TypeAlias = FrameReady | PackSynced | SegmentDone
FollowMessage: TypeAlias = (
    Connected | FrameReady | PackSynced | FramesLost | SegmentCut | SegmentDone | Progress
)

FrameWatcher: TypeAlias = Callable[[str, FrameReady], None]
"""Is told of each sampled picture of a source that is followed (video id, what the decoder said) before any model sees
it. Must return at once."""


class DecodeSession(Protocol):
    """One request at work in a decoder process. Iterate until `SegmentDone`."""

    @property
    def outstanding_slots(self) -> frozenset[int]:
        """Slots lent that have not come back."""
        ...

    async def lend(self, slots: Sequence[int]) -> None: ...

    def __aiter__(self) -> AsyncIterator[DecoderMessage]: ...


class FollowSession(Protocol):
    """A source that is being followed in a decoder process. Iterate until `SegmentDone`. Where a picture comes,
    sampled or not, a message follows within seconds: `Progress`, if there is nothing else to say."""

    @property
    def outstanding_slots(self) -> frozenset[int]:
        """Slots lent that have not come back."""
        ...

    async def lend(self, slots: Sequence[int]) -> None: ...

    async def start_segment(self, start: StartSegment) -> None:
        """The answer to `SegmentCut`."""
        ...

    async def cancel(self) -> None:
        """Ask for an early end: what was put out is synced, then `SegmentDone` comes."""
        ...

    def __aiter__(self) -> AsyncIterator[FollowMessage]: ...


class Decoders(Protocol):
    """Decoder processes. Raise `SourceFailure` for a bad source, `RetryableFailure` when the process failed."""

    async def probe(self, path: Path, scan_path: Path, segment_seconds: float) -> SourceInfo: ...

    def open(self, request: DecodeRequest) -> AbstractAsyncContextManager[DecodeSession]: ...

    async def probe_source(self, access: SourceAccess) -> SourceInfo: ...

    def follow(self, request: FollowSource) -> AbstractAsyncContextManager[FollowSession]: ...


class Slots(Protocol):
    """The frame slots in shared memory, handed out fairly."""

    async def acquire(self, owner: str) -> int: ...

    def release(self, slot: int) -> None: ...


class Inference(Protocol):
    """The models. `infer` raises `FrameRefusedError` when the frame cannot be judged by any means."""

    @property
    def identities(self) -> dict[str, ModelIdentity]: ...

    async def infer(self, model_key: str, frame: FrameRef, *, key: str) -> FrameResult: ...


class Fetcher(Protocol):
    """Brings the file behind a URL to `target`; goes on where an earlier call stopped."""

    async def fetch(self, url: str, target: Path) -> int:
        """The size in bytes. Tries again by itself. Raises `SourceFailure`."""
        ...

    async def transport_of(self, url: str) -> Transport:
        """How the pictures behind an http(s) URL have to be taken, from the answer's headers and first bytes: `hls` for
        a playlist, `http` for an answer without an end or a container without an index, else `file` (fetch it whole).
        Tries again by itself. Raises `SourceFailure`."""
        ...


class Storage(Protocol):
    """Where a video's files lie. Paths are absolute; asking for one makes no folder."""

    async def prepare_video(self, video_id: str) -> None:
        """Make the video's folders: before anything is written to its paths."""
        ...

    def spool_path(self, video_id: str) -> Path: ...

    def scan_path(self, video_id: str) -> Path: ...

    def pack_path(self, video_id: str, pack: str) -> Path: ...

    def require_room(self) -> None:
        """Raises EnvironmentFailure when the disk is too full to write."""
        ...

    async def remove_source(self, video_id: str, location: str) -> int:
        """Remove the fetched or uploaded file of the video (never one outside the data directory); bytes freed."""
        ...

    async def remove_sources_but(
        self, video_ids: Set[str], locations: Set[str], *, untouched_for: float
    ) -> int:
        """Remove fetched and uploaded files but those of `video_ids` and at `locations`, where they were not written to
        for so many seconds; bytes freed."""
        ...

    async def remove_video(self, video_id: str) -> int:
        """Remove all files of the video; bytes freed, as by `remove_segments`."""
        ...

    async def remove_segments(self, video_id: str, segments: Set[int]) -> int:
        """Remove what is stored of these segments (frames, analytics) and what was made from them; bytes freed.
        Analytics files are not counted: their projection removes them, too, and nobody knows who comes first."""
        ...

    async def measure_segments(self, video_id: str, segments: Set[int]) -> int:
        """How many bytes `remove_segments` would free, analytics files of single segments counted."""
        ...

    async def measure_video(self, video_id: str, location: str) -> int:
        """How many bytes `remove_video` and `remove_source` would free, analytics files counted."""
        ...

    async def analytics_bytes(self, video_id: str) -> int:
        """How many bytes the video's analytics files take."""
        ...


class Invitation(NamedTuple):
    """`address`: of a socket; `token`: to be said there first, once."""

    address: str
    token: str


class Secrets(Protocol):
    """URLs that carry a password or a token: kept in files that only this user reads, never in events."""

    async def keep_url(self, video_id: str, url: str) -> None: ...

    async def url_of(self, video_id: str) -> str | None: ...

    async def forget(self, video_id: str) -> None: ...

    async def forget_all_but(self, video_ids: Set[str], *, untouched_for: float) -> None: ...


class Publishers(Protocol):
    """Who pushes pictures to the program."""

    async def wait(self, video_id: str, timeout: float) -> bool:
        """Until there is something to follow: a publisher, or one who has gone and left what nobody has followed yet.
        False after `timeout` seconds without."""
        ...

    def give_up(self, video_id: str) -> bool:
        """What a publisher left who has gone is of no use. Whether it will not come again: it ended in order."""
        ...

    def note(self, video: Video) -> None:
        """How the video stands now: when it takes no more, its publisher is told why and sent away."""
        ...


class SegmentQueue(Protocol):
    """Segments of files that all copies of the program take from."""

    def offer(self, video: Video, jobs: Sequence[SegmentJob]) -> None:
        """These are the video's segments that can be done now. Each is put into the queue once, and again after a
        failure, or when it was lost."""
        ...

    def running(self) -> Sequence[SegmentJob]:
        """What this copy does now."""
        ...

    def cancel(self, job: SegmentJob) -> None:
        """End a running job: nobody wants it done any more."""
        ...

    async def until_ended(self, jobs: Iterable[SegmentJob]) -> None:
        """Until this copy does none of `jobs` any more as it does now."""
        ...


class Handover(Protocol):
    """Where decoder processes get what publishers push, and bring what they read for those who watch."""

    def invite(self, video_id: str, *, look: bool) -> Invitation:
        """For one connection to what is published to the video now. `look`: only to see what it is; the follower that
        comes next gets the same pictures."""
        ...

    def accept(self, video_id: str) -> Invitation:
        """For one connection that brings what comes of the video, which is followed, to those who watch."""
        ...


class ReadModelGate(Protocol):
    """Lets an answer wait until the read model has seen the write."""

    async def wait_for(self, commit_position: int, timeout: float) -> None: ...
