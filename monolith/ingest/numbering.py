"""Decoded pictures with their frame numbers: by the rank of their pts (indexed) or as they come out (sequential)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from monolith.domain.segment import SourcePosition
from monolith.ingest.errors import SourceError
from monolith.ingest.media import frame_rate, inputs_of_file, own_timestamp
from monolith.ingest.reader import OpenVideo, open_video
from monolith.ingest.scan import PtsTable
from monolith.ingest.timeline import Timeline

_SEEK_BACK: Final = (0.0, 2.0, 10.0, 60.0)
"""Seconds before the wanted picture at which to look for its keyframe, one try after the other; then the start."""
_STRANGERS_ALLOWED: Final = 100


class NumberedPicture(NamedTuple):
    """A decoded picture: `number` from 1 over the whole video, `timestamp` in seconds (pts × time base). `position`:
    where the source can be taken up again behind it; `source_time`: see `FrameReady`, None: as the picture says."""

    number: int
    timestamp: float
    picture: VideoFrame
    position: SourcePosition | None = None
    source_time: float | None = None


class _Landing(NamedTuple):
    """An open file, its packets from a keyframe on, and how many pictures of the table precede that keyframe."""

    video: OpenVideo
    packets: Iterator[Packet[VideoStream]]
    rank: int


class IndexedReader:
    """Pictures of an indexed source, numbered by `table`, from anywhere in it."""

    def __init__(self, path: Path, table: PtsTable) -> None:
        self._path = path
        self._table = table
        self.damaged = 0
        self.last_error = ""

    def read(self, first: int, last: int, progress: Callable[[], None]) -> Iterator[NumberedPicture]:
        """Pictures `first`…`last` (inclusive) that can be decoded, ascending.

        `progress` is called for every picture decoded on the way. Raises SourceError.
        """
        target = int(self._table[first - 1])
        video, pictures = self._from(target)
        with video:
            try:
                yield from self._numbered(
                    video.stream.time_base or Fraction(1), pictures, first, last, progress
                )
            finally:
                self.damaged, self.last_error = video.damaged, video.last_error

    def _numbered(
        self,
        time_base: Fraction,
        pictures: Iterator[VideoFrame],
        first: int,
        last: int,
        progress: Callable[[], None],
    ) -> Iterator[NumberedPicture]:
        previous, strangers = first - 1, 0
        for picture in pictures:
            progress()
            number = self._number(picture)
            if number is None:
                strangers += 1
                if strangers > _STRANGERS_ALLOWED and previous < first:
                    raise SourceError(
                        "the source has changed since it was scanned: its timestamps are others"
                    )
            elif number > last:
                return
            elif number > previous:
                previous = number
                yield NumberedPicture(number, float(int(self._table[number - 1]) * time_base), picture)

    def _number(self, picture: VideoFrame) -> int | None:
        if picture.pts is None:
            return None
        index = int(np.searchsorted(self._table, picture.pts))
        known = index < len(self._table) and int(self._table[index]) == picture.pts
        return index + 1 if known else None

    def _from(self, target: int) -> tuple[OpenVideo, Iterator[VideoFrame]]:
        """The file at a place from which the picture at pts `target` comes out, if it can be decoded at all.

        Where the first picture is later than `target` the decoder needed an earlier keyframe (a recovery point);
        tried once more from there, since the picture may also just be damaged.
        """
        landing = self._landed(target)
        pictures = landing.video.pictures(landing.packets)
        opening = next(pictures, None)
        if landing.rank and (opening is None or opening.pts is None or opening.pts > target):
            landing.video.close()
            landing = self._landed(int(self._table[landing.rank - 1]))
            pictures = landing.video.pictures(landing.packets)
            opening = next(pictures, None)
        return landing.video, itertools.chain(() if opening is None else (opening,), pictures)

    def _landed(self, target: int) -> _Landing:
        """The file at a keyframe whose pts is at most `target`, or at its start; demuxers may land late."""
        for back in _SEEK_BACK:
            video = open_video(self._path)
            goal = target - round(back / (video.stream.time_base or Fraction(1)))
            landing = self._seek(video, goal, target) if goal > self._table[0] else None
            if landing is not None:
                return landing
            video.close()
        video = open_video(self._path)
        return _Landing(video, video.packets(), rank=0)

    def _seek(self, video: OpenVideo, goal: int, target: int) -> _Landing | None:
        try:
            video.container.seek(goal, stream=video.stream)
        except (av.error.FFmpegError, ValueError):
            return None
        packets = video.packets()
        first = next(packets, None)
        if first is None or first.pts is None or first.pts > target or not first.is_keyframe:
            return None
        rank = int(np.searchsorted(self._table, first.pts))
        return _Landing(video, itertools.chain((first,), packets), rank)


class SequentialReader:
    """Pictures of a sequential source, numbered as they are decoded; stays open between segments. Timestamps: see
    `Timeline`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._restart()

    def _restart(self) -> None:
        self._inputs = inputs_of_file(self.path)
        self._video = next(self._inputs)
        self._pictures = self._all()
        self._timeline = Timeline(None, live=False)
        self._damaged_before = 0
        self.next_number = 1
        self.at_end = False

    def _all(self) -> Iterator[VideoFrame]:
        yield from self._video.pictures()
        for video in self._inputs:
            self._damaged_before += self._video.damaged
            self._video = video
            yield from video.pictures()

    @property
    def damaged(self) -> int:
        return self._damaged_before + self._video.damaged

    @property
    def last_error(self) -> str:
        return self._video.last_error

    def read(self, first: int, last: int | None, progress: Callable[[], None]) -> Iterator[NumberedPicture]:
        """Pictures `first`…`last` (inclusive; None: to the end), from where the last call ended if that fits.

        Else the file is decoded again from its start. `at_end` tells whether the file ended. Raises SourceError.
        """
        if first < self.next_number:
            self.close()
            self._restart()
        while last is None or self.next_number <= last:
            progress()  # may end the request: between two pictures, so that none is taken and not counted
            picture = next(self._pictures, None)
            if picture is None:
                self.at_end = True
                return
            number = self.next_number
            self.next_number += 1
            timestamp = self._timeline.at(own_timestamp(picture), 0.0, frame_rate(self._video))
            if number >= first:
                yield NumberedPicture(number, timestamp, picture)

    def close(self) -> None:
        self._inputs.close()
