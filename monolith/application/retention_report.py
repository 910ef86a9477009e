"""What a retention is asked to do, and what it tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from monolith.domain.errors import InvalidRequestError
from monolith.domain.segment import ExpiredSegment

DAY_SECONDS: Final = 86_400.0
MAX_DAYS: Final = 36_500.0
MAX_KEPT: Final = 10_000
_MAX_LISTED: Final = 100

Trigger: TypeAlias = Literal["request", "schedule"]
State: TypeAlias = Literal["running", "done", "failed"]
Phase: TypeAlias = Literal["finding", "expiring", "purging", "ended"]


class RetentionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Segments older than `days` go, but those of the videos `keep`. `dry_run`: only say which.

    Raises InvalidRequestError where it is made.
    """

    days: float
    dry_run: bool = False
    keep: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.days <= MAX_DAYS:
            raise InvalidRequestError(
                f"days must be a number from 0 to {MAX_DAYS:g}, not {self.days!r}; fractions are right",
                field="days",
            )
        if len(self.keep) > MAX_KEPT:
            raise InvalidRequestError(f"keep takes at most {MAX_KEPT} videos", field="keep")
        for video_id in self.keep:
            _check_video_id(video_id)


def _check_video_id(video_id: str) -> None:
    try:
        right = str(UUID(video_id)) == video_id
    except ValueError:
        right = False
    if not right:
        raise InvalidRequestError(
            f"keep: {video_id[:100]!r} is not the id of a video, a UUID in lower case", field="keep"
        )


class VideoShare(msgspec.Struct, kw_only=True):
    """What went of one video."""

    video_id: str
    video_name: str
    segments: int = 0
    frames: int = 0
    bytes_freed: int = 0


class RetentionReport(msgspec.Struct, kw_only=True):
    """What a retention has done so far, or (`dry_run`) would do.

    Times in Unix seconds. `looked_at` of `candidates` segments were looked at; `segments` of `videos` videos went, with
    `frames` stored frames; `purged` of the segments are off the disk, which freed `bytes_freed`. `unreadable`: segments
    that stay because their events cannot be read. `by_video`: the first hundred videos.
    """

    state: State = "running"
    phase: Phase = "finding"
    trigger: Trigger = "request"
    dry_run: bool
    days: float
    older_than: float
    keep: tuple[str, ...] = ()
    started_at: float
    ended_at: float | None = None
    candidates: int = 0
    looked_at: int = 0
    videos: int = 0
    segments: int = 0
    frames: int = 0
    purged: int = 0
    bytes_freed: int = 0
    unreadable: int = 0
    by_video: list[VideoShare] = []
    error: str | None = None

    @property
    def progress(self) -> float:
        """0–1: looking is one half, purging the other; a dry run only looks."""
        if self.state == "done":
            return 1.0
        looked = self.looked_at / self.candidates if self.candidates else 0.0
        if self.dry_run:
            return looked
        return looked * (1 + (self.purged / self.segments if self.segments else 0.0)) / 2

    def new_video(self, video_id: str, video_name: str) -> VideoShare:
        """Begin to count what goes of a further video."""
        share = VideoShare(video_id=video_id, video_name=video_name)
        self.videos += 1
        if len(self.by_video) < _MAX_LISTED:
            self.by_video.append(share)
        return share

    def count(self, share: VideoShare, segments: Sequence[ExpiredSegment]) -> None:
        """These go."""
        frames = sum(one.frames_stored for one in segments)
        self.segments += len(segments)
        self.frames += frames
        share.segments += len(segments)
        share.frames += frames

    def free(self, video_id: str, freed: int) -> None:
        """So many bytes of the video are free again."""
        self.bytes_freed += freed
        for share in self.by_video:
            if share.video_id == video_id:
                share.bytes_freed += freed
