"""When a frame of the video is shown in the file."""

from __future__ import annotations

from typing import Final

from monolith.exports.options import AnnotatedOptions

_LONGEST_LEAD: Final = 10.0
"""Seconds of the video before its first frame that the file begins with; with more it begins at that frame."""


class FileTimes:
    """Asked for one frame after another. `origin`: the time of the video, in seconds, at which the file begins.

    Where it can be, times of the file are those of the video: subtitles and results fit it.
    """

    def __init__(self, options: AnnotatedOptions) -> None:
        self._options = options
        self._shown = 0
        self.origin = 0.0

    def shown_at(self, timestamp: float) -> float:
        """Seconds from the beginning of the file at which the next frame, of `timestamp`, is shown; never below 0."""
        number, self._shown = self._shown, self._shown + 1
        if number == 0:
            keeps_time = self._options.fps is None and 0 <= timestamp <= _LONGEST_LEAD
            self.origin = 0.0 if keeps_time else timestamp
        if self._options.fps is not None:
            return number / self._options.fps / self._options.speed
        return max(0.0, timestamp - self.origin) / self._options.speed
