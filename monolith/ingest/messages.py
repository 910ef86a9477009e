"""What the parent and a decoder process say to each other (msgpack over a socket pair). Pixels go to slots, JPEGs
to the frame pack; neither travels here.

The decoder says `Started` once. Then the parent sends one request at a time; the decoder answers with `Probed`, or
with `FrameReady`… `PackSynced`… `SegmentDone`; or with `Failed` at any time. Whenever it has been at work for a
second without an answer it says `Progress`, so that a long way to the first frame is not taken for a hang.
`Slots` lend frame slots for the request that was sent last; a slot is the decoder's until it comes back in a
`FrameReady` or the request ends. `Cancel` ends the request early (`SegmentDone` follows, or `Failed` for a probe).

`FollowSource` goes over many segments: `Connected`, then for each segment `FrameReady`… `PackSynced`… `FramesLost`…
`SegmentCut`, which the parent answers with `StartSegment`; the last one ends with `SegmentDone`. The steps of its
`Progress` count pictures, sampled or not.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from monolith.domain.events import Transport
from monolith.domain.segment import SourceInfo, SourcePosition, StoredFrame


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """Open the local file `path`, scan its packets, plan its segments of about `segment_seconds` of media.

    `scan_path`: where the sorted pts table is kept for the segments' decoders.
    """

    path: str
    scan_path: str
    segment_seconds: float


class DecodeSegment(msgspec.Struct, frozen=True, tag="decode"):
    """Decode the frames `first_frame`…`last_frame` (inclusive, from 1; last None: to the end) of `path`; scale, store
    in `pack_path` and put into slots every one with `n % frame_step == 0`, but those in `skip`.

    `pts_digest`: of the table that numbered the frames (indexed sources), else None. `max_height`: pixels.
    `infer_from`: `stored` (the slot holds the decoded JPEG) or `source`.
    """

    path: str
    scan_path: str
    pts_digest: str | None
    first_frame: int
    last_frame: int | None
    frame_step: int
    skip: tuple[int, ...]
    pack_path: str
    max_height: int
    jpeg_quality: int
    infer_from: str


class StoredFrameSource(msgspec.Struct, frozen=True):
    """A stored frame and the pack file that holds it."""

    frame: StoredFrame
    pack_path: str


class ReadStored(msgspec.Struct, frozen=True, tag="stored"):
    """Put frames that are stored already into slots, in order: a resumed segment, or another run."""

    frames: tuple[StoredFrameSource, ...]


class SourceAccess(msgspec.Struct, frozen=True):
    """Where a source that is followed is, and what may be connected to for it.

    `url`: whole, with its secrets; of what is pushed (`rtmp`, `webrtc`): the path of a socket of the program, where
    `token` is said first. `loopback_only`, `networks` (CIDR): as in `monolith.ingest.addresses.AddressPolicy`;
    every address is checked, those in playlists and redirects too. `rtsp_transport`: `tcp`, `udp`, or `auto` (TCP
    first). Timeouts in seconds; `max_bytes`, `total_timeout`: of a source that is not live, the time for which it is
    waited.
    """

    url: str
    transport: Transport
    loopback_only: bool
    networks: tuple[str, ...]
    rtsp_transport: str = "auto"
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    max_bytes: int = 20 << 30
    total_timeout: float = 6 * 3600.0
    token: str = ""


class FeedAccess(msgspec.Struct, frozen=True):
    """Where packets of a source go for those who watch: `address` of a socket of the program, `token` to be said there
    first. What is said then: `monolith.live.followed.messages`."""

    address: str
    token: str


class ProbeSource(msgspec.Struct, frozen=True, tag="probe_source"):
    """Connect, find out what comes (codec, size, rate, live or not), disconnect. Answered with `Probed`."""

    access: SourceAccess


class StartSegment(msgspec.Struct, frozen=True, tag="start_segment"):
    """The next pictures belong to `segment`; the sampled ones are stored in `pack_path`, but those in `skip`."""

    segment: int
    pack_path: str
    skip: tuple[int, ...] = ()


class FollowSource(msgspec.Struct, frozen=True, tag="follow"):
    """Connect and put every sampled picture (`n % frame_step == 0`) into a slot and into the pack of its segment.

    Live: the first picture of this connection gets the number `first_frame`, and timestamps count seconds from the
    first picture of the video, which came at `timeline_start` (Unix seconds; None: this connection's first picture is
    at 0.0), but never from less than `timeline_least`, however the clock was set meanwhile; a sampled picture for which
    there is no slot in time is lost, the newest one wins. `behind`: the last picture that is stored; where the source
    still has what comes after it, this connection begins there.
    Not live: pictures are numbered from 1 as they are decoded and those before `first_frame` are passed over;
    timestamps are pts × time base with breaks closed (`Timeline`), as a file of the same bytes has them; slots are
    waited for.

    A segment is cut when it holds `segment_seconds` of media, at a keyframe if one comes soon.

    `feed`: where its packets go, too, while somebody watches.
    """

    access: SourceAccess
    live: bool
    first_frame: int
    timeline_start: float | None
    frame_step: int
    max_height: int
    jpeg_quality: int
    infer_from: str
    segment_seconds: float
    start: StartSegment
    timeline_least: float = 0.0
    behind: SourcePosition | None = None
    feed: FeedAccess | None = None


class Slots(msgspec.Struct, frozen=True, tag="slots"):
    """Frame slots lent to the decoder."""

    slots: tuple[int, ...]


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop the running request."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The process is up and waits for requests."""

    pid: int


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Still at work: `steps` packets or pictures gone through in this request."""

    steps: int


class Probed(msgspec.Struct, frozen=True, tag="probed"):
    """Answer to `Probe`."""

    source: SourceInfo


class FrameReady(msgspec.Struct, frozen=True, tag="frame"):
    """A frame lies in `slot` (RGB, `frame.height` × `frame.width`) and, not yet synced, in the pack.

    `decode_seconds`: since the frame before; `resize_seconds`: conversion and scaling; `encode_seconds`: JPEG.
    `source_time`: seconds as the source says (pts × time base), where it says anything, or as its packets have it that
    go to viewers; `frame.timestamp` is on the video's timeline.
    `position`: for a later `FollowSource`.
    """

    slot: int
    frame: StoredFrame
    decode_seconds: float
    resize_seconds: float
    encode_seconds: float
    position: SourcePosition | None = None
    source_time: float | None = None


class PackSynced(msgspec.Struct, frozen=True, tag="synced"):
    """All frames up to `frame_number` of this request are on the disk (fsync)."""

    frame_number: int


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """The first picture has come: `first_frame` at `timestamp` (seconds on the video's timeline) and `wall_time` (Unix
    seconds)."""

    first_frame: int
    timestamp: float
    wall_time: float


class FramesLost(msgspec.Struct, frozen=True, tag="lost"):
    """Sampled pictures of the current segment that are gone: too late for a slot, or damaged. `reason` is for users."""

    frame_numbers: tuple[int, ...]
    reason: str


class SegmentCut(msgspec.Struct, frozen=True, tag="cut"):
    """The current segment is full: all its frames were said and are synced. `last_frame`: its greatest frame number,
    sampled or not. Nothing more comes before `StartSegment`."""

    last_frame: int
    frames_seen: int


class SegmentDone(msgspec.Struct, frozen=True, tag="segment_done"):
    """The request ends. `unused_slots` come back. `missing`: sampled frame numbers that could not be decoded.

    `frames_seen`: decoded pictures, sampled or not (indexed sources: from the first to the last wanted one);
    `last_frame`: the greatest frame number that the range really has, None for none (after `Cancel`: that was met);
    `end_of_source`: the range reaches the end of the file, or the source that was followed has come to its end;
    `broken`: why a connection to a source that is followed gave no more, else None.
    """

    unused_slots: tuple[int, ...]
    missing: tuple[int, ...]
    frames_seen: int
    last_frame: int | None
    end_of_source: bool
    warnings: tuple[str, ...] = ()
    broken: str | None = None


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The request cannot be done. `reason` is for users; `permanent`: trying again cannot help (bad file)."""

    reason: str
    permanent: bool
    unused_slots: tuple[int, ...] = ()


ToDecoder: TypeAlias = (
    Probe | ProbeSource | DecodeSegment | ReadStored | FollowSource | StartSegment | Slots | Cancel
)
FromDecoder: TypeAlias = (
    Started
    | Progress
    | Probed
    | Connected
    | FrameReady
    | PackSynced
    | FramesLost
    | SegmentCut
    | SegmentDone
    | Failed
)
