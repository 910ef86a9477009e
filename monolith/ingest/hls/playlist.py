"""HLS playlists (RFC 8216): bytes in, what they say out. Bounded, and nothing but `PlaylistError` escapes.

Read is what leads to pictures: variants, segments with their byte ranges, keys, initialization sections and
discontinuities. Everything else is passed over, as the RFC asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

MAX_PLAYLIST_BYTES: Final = 8 << 20
_MAX_LINE: Final = 16_384
_MAX_SEGMENTS: Final = 100_000
_MAX_VARIANTS: Final = 1_000
_MAX_NUMBER: Final = 2**63
_LONGEST_SEGMENT: Final = 86_400.0
_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')
_SOUND: Final = ("mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3", "vorbis", "stpp", "wvtt")
"""How the names of codecs begin that hold no pictures."""
_RESOLUTION: Final = re.compile(r"(\d{1,5})x(\d{1,5})")


class PlaylistError(ValueError):
    """The text is no playlist that could be used; says why."""


class ByteRange(NamedTuple):
    """Bytes `start`…`end` (exclusive) of the file behind the URI."""

    start: int
    end: int


class Key(NamedTuple):
    """How segments are encrypted. `iv`: 16 bytes; None: the segment's sequence number."""

    method: str
    uri: str
    iv: bytes | None
    key_format: str


class InitSection(NamedTuple):
    """What a demuxer must have read before the segment (EXT-X-MAP)."""

    uri: str
    byte_range: ByteRange | None
    key: Key | None


class MediaSegment(NamedTuple):
    """`sequence`: its number in the source. `duration`: seconds. `discontinuity`: how many are before it; where that
    changes, timestamps and codecs may change. `gap`: the server says that there is nothing."""

    sequence: int
    duration: float
    uri: str
    byte_range: ByteRange | None
    key: Key | None
    init: InitSection | None
    discontinuity: int
    gap: bool


class Variant(NamedTuple):
    """A playlist of the same pictures in another size. `bandwidth`: bits per second; `width`, `height`: None where not
    said; `has_pictures`: False where its codecs are all of sound."""

    uri: str
    bandwidth: int
    width: int | None
    height: int | None
    has_pictures: bool


@dataclass(frozen=True)
class MasterPlaylist:
    """Names variants, one at least."""

    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class MediaPlaylist:
    """Names segments, ascending by `sequence`. `target_duration`: seconds. `ended`: no more will come."""

    segments: tuple[MediaSegment, ...]
    target_duration: float
    ended: bool

    @property
    def duration(self) -> float:
        return sum(segment.duration for segment in self.segments)


Playlist: TypeAlias = MasterPlaylist | MediaPlaylist


def parse_playlist(data: bytes) -> Playlist:
    """Raises PlaylistError."""
    if len(data) > MAX_PLAYLIST_BYTES:
        raise PlaylistError(f"the playlist has more than {MAX_PLAYLIST_BYTES} bytes")
    lines = _lines(data)
    if next(lines, "") != "#EXTM3U":
        raise PlaylistError("the playlist does not begin with #EXTM3U")
    parser = _Parser()
    for line in lines:
        parser.take(line)
    return parser.playlist()


def _lines(data: bytes) -> Iterator[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PlaylistError("the playlist is not text in UTF-8") from error
    for line in text.split("\n"):
        stripped = line.strip()
        if len(stripped) > _MAX_LINE:
            raise PlaylistError(f"the playlist has a line of more than {_MAX_LINE} characters")
        if stripped:
            yield stripped


@dataclass
class _Parser:
    """What holds for the lines to come, and what was found."""

    variants: list[Variant] = field(default_factory=list)
    segments: list[MediaSegment] = field(default_factory=list)
    target_duration: float | None = None
    ended: bool = False
    sequence: int = 0
    discontinuity: int = 0
    key: Key | None = None
    init: InitSection | None = None
    duration: float | None = None
    byte_range: tuple[int, int | None] | None = None
    gap: bool = False
    variant: dict[str, str] | None = None

    def take(self, line: str) -> None:
        if not line.startswith("#"):
            self._uri(line)
        elif line.startswith("#EXT"):
            name, _, value = line.partition(":")
            self._tag(name, value)

    def _tag(self, name: str, value: str) -> None:
        match name:
            case "#EXTINF":
                self.duration = _seconds(value.partition(",")[0])
            case "#EXT-X-TARGETDURATION":
                self.target_duration = _seconds(value)
            case "#EXT-X-MEDIA-SEQUENCE":
                self._before_segments(name)
                self.sequence = _number(value)
            case "#EXT-X-DISCONTINUITY-SEQUENCE":
                self._before_segments(name)
                self.discontinuity = _number(value)
            case "#EXT-X-DISCONTINUITY":
                self.discontinuity += 1
            case "#EXT-X-BYTERANGE":
                self.byte_range = _byte_range(value)
            case "#EXT-X-KEY":
                self.key = _key(_attributes(value))
            case "#EXT-X-MAP":
                self.init = _init(_attributes(value), self.key)
            case "#EXT-X-GAP":
                self.gap = True
            case "#EXT-X-ENDLIST":
                self.ended = True
            case "#EXT-X-STREAM-INF":
                self.variant = _attributes(value)

    def _before_segments(self, name: str) -> None:
        if self.segments:
            raise PlaylistError(f"{name} stands behind segments")

    def _uri(self, uri: str) -> None:
        if self.variant is not None:
            self.variants.append(_variant(uri, self.variant))
            self.variant = None
        elif self.duration is not None:
            self.segments.append(self._segment(uri, self.duration))
            self.duration, self.byte_range, self.gap = None, None, False
        if len(self.segments) > _MAX_SEGMENTS or len(self.variants) > _MAX_VARIANTS:
            raise PlaylistError(
                f"the playlist names more than {_MAX_SEGMENTS} segments or {_MAX_VARIANTS} variants"
            )

    def _segment(self, uri: str, duration: float) -> MediaSegment:
        segment = MediaSegment(
            sequence=self.sequence,
            duration=duration,
            uri=uri,
            byte_range=self._range_of(uri),
            key=self.key,
            init=self.init,
            discontinuity=self.discontinuity,
            gap=self.gap,
        )
        self.sequence += 1
        return segment

    def _range_of(self, uri: str) -> ByteRange | None:
        """A range without a start begins where the one before it, of the same file, ends."""
        if self.byte_range is None:
            return None
        length, start = self.byte_range
        before = self.segments[-1] if self.segments else None
        if start is None and before is not None and before.uri == uri and before.byte_range is not None:
            start = before.byte_range.end
        if start is None:
            raise PlaylistError("a byte range has no start, and no range of the same file is before it")
        return ByteRange(start, start + length)

    def playlist(self) -> Playlist:
        if self.variants and self.segments:
            raise PlaylistError("the playlist names both variants and segments")
        if self.variants:
            return MasterPlaylist(tuple(self.variants))
        if self.target_duration is None:
            raise PlaylistError("the playlist names no variants and has no target duration")
        return MediaPlaylist(tuple(self.segments), self.target_duration, self.ended)


def _attributes(text: str) -> dict[str, str]:
    """NAME=value,NAME="value" → values without quotes. Raises PlaylistError."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is None:
            raise PlaylistError("a list of attributes is malformed")
        found[match[1]] = match[2].strip('"')
        at = match.end()
        at += len(text[at : at + 64]) - len(text[at : at + 64].lstrip(" "))
    return found


def _number(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) >= _MAX_NUMBER:
        raise PlaylistError("a number is malformed")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text.strip())
    except ValueError as error:
        raise PlaylistError("a duration is malformed") from error
    if not 0 <= value <= _LONGEST_SEGMENT:
        raise PlaylistError(f"a duration is not from 0 to {_LONGEST_SEGMENT:g} seconds")
    return value


def _byte_range(text: str) -> tuple[int, int | None]:
    """`length[@start]`."""
    length, at, start = text.partition("@")
    return _number(length), _number(start) if at else None


def _key(attributes: dict[str, str]) -> Key | None:
    method = attributes.get("METHOD", "")
    if method == "NONE":
        return None
    if not method or not attributes.get("URI"):
        raise PlaylistError("a key has no method or no URI")
    key_format = attributes.get("KEYFORMAT", "identity")
    return Key(method, attributes["URI"], _iv(attributes.get("IV")), key_format)


def _iv(text: str | None) -> bytes | None:
    if text is None:
        return None
    digits = text[2:]
    if text[:2] not in ("0x", "0X") or not re.fullmatch(r"[0-9A-Fa-f]{1,32}", digits):
        raise PlaylistError("the IV of a key is malformed")
    return int(digits, 16).to_bytes(16)


def _init(attributes: dict[str, str], key: Key | None) -> InitSection:
    if not attributes.get("URI"):
        raise PlaylistError("an initialization section has no URI")
    byte_range = None
    if "BYTERANGE" in attributes:
        length, start = _byte_range(attributes["BYTERANGE"])
        byte_range = ByteRange(start or 0, (start or 0) + length)
    return InitSection(attributes["URI"], byte_range, key)


def _variant(uri: str, attributes: dict[str, str]) -> Variant:
    size = _RESOLUTION.fullmatch(attributes.get("RESOLUTION", ""))
    codecs = [codec.strip().lower() for codec in attributes.get("CODECS", "").split(",") if codec.strip()]
    return Variant(
        uri=uri,
        bandwidth=_number(attributes.get("BANDWIDTH", "0")),
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        has_pictures=size is not None or not codecs or any(not codec.startswith(_SOUND) for codec in codecs),
    )
