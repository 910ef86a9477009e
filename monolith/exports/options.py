"""What an annotated video is to show, and the names that tell one from another."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from monolith.domain.models import MODEL_KEYS
from monolith.readmodels.results import ResultFilter, Selection, select_runs
from monolith.readmodels.videos import RunView, VideoView

_FORMAT: Final = 1
"""Goes up when the same options make another file."""
_DIGEST_CHARACTERS: Final = 16
_UNDER_WAY: Final = ("Pending", "Processing")


class AnnotatedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What users may choose.

    `models`: keys, none: all; `run_id`: this run alone; `min_confidence`: 0–1, None: each model's default;
    `from_time`, `to_time`: seconds of the video, inclusive. Frames keep their times, or with `fps` each is shown for
    1/fps seconds; all of it `speed` times as fast.
    """

    models: tuple[str, ...] = ()
    run_id: str | None = None
    min_confidence: float | None = None
    from_time: float | None = None
    to_time: float | None = None
    speed: float = 1.0
    fps: float | None = None

    @property
    def digest(self) -> str:
        """The same for options that mean the same."""
        chosen = tuple(key for key in MODEL_KEYS if key in self.models) or MODEL_KEYS
        plain = msgspec.structs.replace(self, models=chosen, speed=float(self.speed))
        return _digest(_FORMAT, plain)

    @property
    def wanted(self) -> ResultFilter:
        return ResultFilter(
            from_time=self.from_time, to_time=self.to_time, min_confidence=self.min_confidence
        )


class Subject(msgspec.Struct, frozen=True):
    """A video as it is now, and the runs that answer for it."""

    video: VideoView
    selection: Selection
    options: AnnotatedOptions

    @property
    def runs(self) -> list[RunView]:
        return [run for run in self.video.runs if run.run_no in self.selection.run_numbers]

    @property
    def complete(self) -> bool:
        """Whether no more results will come."""
        return all(run.status not in _UNDER_WAY for run in self.runs)

    @property
    def version(self) -> str:
        """Another one when there is more, or something else, to show."""
        state = [
            (run.run_id, run.status, run.frames_analyzed, run.frames_dropped, source.model_numbers)
            for run in self.runs
            for source in self.selection.sources
            if source.run_no == run.run_no
        ]
        return _digest(self.options.digest, sorted(state))

    @property
    def rate(self) -> float:
        """Frames a second in the file, usually."""
        if self.options.fps is not None:
            return self.options.fps * self.options.speed
        of_source = (self.video.media.frame_rate if self.video.media else None) or USUAL_RATE
        step = min((run.frame_step for run in self.runs), default=1)
        return of_source / step * self.options.speed


USUAL_RATE: Final = 25.0
"""Frames a second where the source does not say."""


def subject_of(video: VideoView, options: AnnotatedOptions) -> Subject:
    return Subject(video, select_runs(video, models=options.models, run_id=options.run_id), options)


def _digest(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:_DIGEST_CHARACTERS]
