"""Where in a live HLS source its pictures are, so that another connection goes on behind the last one that was stored.

A picture belongs to the media segment whose bytes its packet came in; inside it, its own timestamp tells it from the
others. That of a media segment is told by its number and its name: numbers alone begin anew when an encoder does.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from monolith.domain.segment import SourcePosition
from monolith.ingest.hls.playlist import MediaSegment
from monolith.ingest.media import own_timestamp
from monolith.ingest.reader import OpenVideo

_SEGMENTS_KEPT: Final = 64
"""A demuxer reads ahead by less."""
_PACKETS_KEPT: Final = 1024
"""A decoder holds back fewer pictures."""
_NAME_DIGITS: Final = 12


class SegmentStarts:
    """Which media segment each byte of a demuxer's input came from."""

    def __init__(self) -> None:
        self._starts: deque[tuple[int, MediaSegment]] = deque(maxlen=_SEGMENTS_KEPT)

    def note(self, offset: int, segment: MediaSegment) -> None:
        """`segment` begins at byte `offset`."""
        self._starts.append((offset, segment))

    def at(self, offset: int) -> MediaSegment | None:
        """None where that is unknown."""
        return next((segment for start, segment in reversed(self._starts) if start <= offset), None)


class PlacedVideo(OpenVideo):
    """An input whose pictures say where they are. Those that an earlier connection has stored are passed over."""

    def __init__(
        self,
        video: OpenVideo,
        starts: SegmentStarts,
        behind: SourcePosition | None,
        listed_after: Callable[[MediaSegment], float],
    ) -> None:
        """`behind`: the last picture that is stored; `listed_after`: seconds of media that are known after a
        segment."""
        super().__init__(video.container, video.stream, goes_on=video.goes_on, offset=video.offset)
        self._starts = starts
        self._behind = behind
        self._listed_after = listed_after
        self._segments: OrderedDict[int, MediaSegment] = OrderedDict()
        """By the timestamps of packets, in units of the time base."""
        self._newest: MediaSegment | None = None

    def pictures(self, packets: Iterator[Packet[VideoStream]] | None = None) -> Iterator[VideoFrame]:
        source = self.packets() if packets is None else packets
        return (picture for picture in super().pictures(self._noted(source)) if not self._is_stored(picture))

    def position_of(self, picture: VideoFrame) -> SourcePosition | None:
        segment = self._segment_of(picture)
        if segment is None:
            return None
        return SourcePosition(
            sequence=segment.sequence, name=name_of(segment), timestamp=own_timestamp(picture)
        )

    def age_of(self, picture: VideoFrame) -> float:
        segment = self._segment_of(picture)
        return 0.0 if segment is None else self._listed_after(segment)

    def _noted(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        for packet in packets:
            segment = None if packet.pos is None else self._starts.at(self.offset + packet.pos)
            self._newest = segment or self._newest
            if packet.pts is not None and self._newest is not None:
                self._segments[packet.pts] = self._newest
                self._segments.move_to_end(packet.pts)
                if len(self._segments) > _PACKETS_KEPT:
                    self._segments.popitem(last=False)
            yield packet

    def _segment_of(self, picture: VideoFrame) -> MediaSegment | None:
        return self._newest if picture.pts is None else self._segments.get(picture.pts, self._newest)

    def _is_stored(self, picture: VideoFrame) -> bool:
        """In doubt it is: a picture that is missing is better than one that is counted twice."""
        behind, segment = self._behind, self._segment_of(picture)
        if behind is None or segment is None or not is_at(segment, behind):
            return False
        own = own_timestamp(picture)
        return own is None or behind.timestamp is None or own <= behind.timestamp


def is_at(segment: MediaSegment, position: SourcePosition) -> bool:
    """Whether it is the media segment of that picture."""
    return segment.sequence == position.sequence and name_of(segment) == position.name


def name_of(segment: MediaSegment) -> str:
    """A digest of its file name and byte range: the rest of a URI may be another one for every connection, or a
    secret."""
    file = segment.uri.partition("?")[0].partition("#")[0].rpartition("/")[2]
    text = f"{file} {segment.byte_range or ''}"
    return hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]
