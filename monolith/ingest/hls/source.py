"""An HLS source: its segments one after another as the input of a demuxer.

Every playlist, key and segment comes over the checked HTTP. FFmpeg sees the bytes of segments alone: its own HLS
client, which cannot be interrupted and silently leaves out what it cannot have, has no part in it.

Live: begins with the newest segment, so that what is seen is as new as can be, and passes over segments that are gone.
After a break it begins behind the last picture that was stored, if the playlist still names its segment: so no picture
is analysed twice.
Not live: every segment, from the first; one that cannot be had ends it, since frame numbers must not depend on luck.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from monolith.domain.segment import SourcePosition
from monolith.ingest.checked_http import CheckedHttp
from monolith.ingest.errors import SourceError
from monolith.ingest.hls.places import PlacedVideo, SegmentStarts
from monolith.ingest.hls.playlist import MediaSegment
from monolith.ingest.hls.playlists import Playlists
from monolith.ingest.hls.segments import SegmentReader
from monolith.ingest.http_rules import StatusError, TryLaterError
from monolith.ingest.media import inputs_of
from monolith.ingest.reader import OpenVideo
from monolith.ingest.web_url import WebUrl

_DEMUXERS: Final = ("mpegts", "mov")
_PIECE_BYTES: Final = 65_536
_HEAD_BYTES: Final = 32_768
_LONGEST_INIT: Final = 4 << 20
_MOST_BYTES_A_SECOND: Final = 32 << 20
"""Of media, as the playlist says how long a segment is; no video that is sent over a network has as many."""
_MOST_BYTES_OF_LEAST: Final = 64 << 20
"""Of a segment however short."""
_MOST_MISSING: Final = 5
"""So many segments of a live source in a row that cannot be had, and the connection counts as broken."""


class HlsSource:
    """A `FollowedSource`."""

    container = "hls"
    lost = 0

    def __init__(
        self,
        http: CheckedHttp,
        url: WebUrl,
        *,
        live: bool | None,
        max_bytes: int,
        behind: SourcePosition | None = None,
    ) -> None:
        """`live`: as it was probed (None: find out). `max_bytes`: of all segments of a source that is not live.
        `behind`: the last picture of a live one that an earlier connection gave.

        Raises SourceError.
        """
        self._http = http
        self._max_bytes = max_bytes
        self._playlists = Playlists(http, url)
        ended = self._playlists.first.ended
        if live is False and not ended:
            raise SourceError("the playlist had an end when it was looked at first, and has none now")
        self.live = not ended if live is None else live
        self.duration = None if self.live else self._playlists.first.duration
        self._behind = behind
        self._segments = self._playlists.live(behind) if self.live else self._playlists.whole()
        self._reader = SegmentReader(http, self._playlists)
        self._next: MediaSegment | None = None
        self._in_a_row = 0
        self._passed_over = 0
        self._last_error = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        missed = self._playlists.missed
        return (
            *([f"{missed} segments were gone before they could be read"] if missed else []),
            *(
                [f"{self._passed_over} segments were passed over: {self._last_error}"]
                if self._passed_over
                else []
            ),
        )

    def inputs(self) -> Generator[OpenVideo, None, None]:
        self._next = next(self._segments, None)
        while self._next is not None:
            part = _Part(self, self._next, self._playlists.restarts)
            if part.has_data():
                for video in inputs_of(part.read, _DEMUXERS, live=self.live):
                    yield self._placed(video, part.starts) if self.live else video

    def _placed(self, video: OpenVideo, starts: SegmentStarts) -> OpenVideo:
        """Where the source began its numbers anew, nothing of it was seen before."""
        behind = None if self._playlists.restarts else self._behind
        return PlacedVideo(video, starts, behind, self._playlists.listed_after)

    def close(self) -> None:
        self._reader.close()
        self._http.close()

    def goes_on(self, first: MediaSegment, restarts: int) -> MediaSegment | None:
        """The next segment, if what can demux `first` can demux it."""
        segment = self._next
        if segment is None or restarts != self._playlists.restarts:
            return None
        same = (segment.discontinuity, segment.init) == (first.discontinuity, first.init)
        return segment if same else None

    def read(self, size: int) -> bytes:
        """Of what is open; b"" when it has ended: then the next segment is the next. Raises SourceError."""
        try:
            data = self._reader.read(size)
        except (StatusError, TryLaterError) as error:
            self._pass_over(error)
            return b""
        if not data:
            self._in_a_row = 0
            self._advance()
        elif not self.live:
            self._check_sizes()
        return data

    def _check_sizes(self) -> None:
        if self._reader.received > self._max_bytes:
            limit = f"{self._max_bytes} bytes (VIDEO_ANALYSIS_MAX_SOURCE_BYTES)"
            raise SourceError(f"the segments have more bytes than the limit of {limit}")
        if self._next is None:
            return
        most = max(_MOST_BYTES_OF_LEAST, _MOST_BYTES_A_SECOND * self._next.duration)
        if self._reader.received_of_this > most:
            raise SourceError(
                f"a segment of {self._next.duration:g} s, as the playlist says, has more than {most:.0f} bytes: "
                "it does not end"
            )

    def _pass_over(self, error: StatusError | TryLaterError) -> None:
        if not self.live:
            raise error
        self._in_a_row += 1
        self._passed_over += 1
        self._last_error = error.reason
        if self._in_a_row > _MOST_MISSING:
            raise TryLaterError(
                f"{_MOST_MISSING} segments in a row could not be had: {error.reason}"
            ) from error
        self._advance()

    def _advance(self) -> None:
        self._reader.close()
        self._next = next(self._segments, None)

    def open(self, segment: MediaSegment) -> None:
        try:
            self._reader.open(segment)
        except (StatusError, TryLaterError) as error:  # of its key
            self._pass_over(error)

    def init_of(self, segment: MediaSegment) -> bytes:
        """The initialization section of `segment`, b"" for none. Raises SourceError."""
        if segment.init is None:
            return b""
        self._reader.open_init(segment.init)
        data = bytearray()
        while piece := self._reader.read(_PIECE_BYTES):
            data += piece
            if len(data) > _LONGEST_INIT:
                raise SourceError(f"an initialization section is longer than {_LONGEST_INIT} bytes")
        self._reader.close()
        return bytes(data)

    @property
    def segment_is_open(self) -> bool:
        return self._reader.is_open


class _Part:
    """Segments that one demuxer can read one after another, as one row of bytes."""

    def __init__(self, source: HlsSource, first: MediaSegment, restarts: int) -> None:
        self._source = source
        self._first = first
        self._restarts = restarts
        self._init: bytes | None = None
        self._head = b""
        self._given = 0
        self.starts = SegmentStarts()

    def has_data(self) -> bool:
        """Whether a first byte comes (waits for it). For once, before the first `read`. Raises SourceError."""
        self._head = self.read(_HEAD_BYTES)
        return bool(self._head)

    def read(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        data = self._read(size)
        self._given += len(data)
        return data

    def _read(self, size: int) -> bytes:
        if self._init is None:
            self._init = self._source.init_of(self._first)
        if self._init:
            piece, self._init = self._init[:size], self._init[size:]
            return piece
        while self._source.segment_is_open or self._open_next():
            if self._source.segment_is_open and (data := self._source.read(size)):
                return data
        return b""

    def _open_next(self) -> bool:
        segment = self._source.goes_on(self._first, self._restarts)
        if segment is not None:
            self.starts.note(self._given, segment)
            self._source.open(segment)
        return segment is not None
