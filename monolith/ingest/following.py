"""The work of a decoder process on a source that is followed: look at it, or follow it over many segments.

Threads: this one connects, reads and decodes; the outbox puts out what it samples; the pulse gives signs of life; the
tap gives packets to those who watch.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from av.video.frame import VideoFrame

from monolith.child import ParentGoneError
from monolith.domain.events import PUSH_KINDS
from monolith.domain.segment import SourceInfo
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.checked_network import Resolver, pause, system_resolver
from monolith.ingest.errors import SourceError
from monolith.ingest.media import frame_rate, own_timestamp
from monolith.ingest.messages import Connected, FollowSource, Probed, ProbeSource, SegmentDone, SourceAccess
from monolith.ingest.numbering import NumberedPicture
from monolith.ingest.outbox import Outbox
from monolith.ingest.pace import Pace
from monolith.ingest.picture import orientation_of
from monolith.ingest.reader import OpenVideo, check_dimensions
from monolith.ingest.requests import PROGRESS_SECONDS, CancelledError, Request
from monolith.ingest.sources import FollowedSource, open_source
from monolith.ingest.timeline import Cutter, Pacer, Timeline
from monolith.live.followed.tap import Tap

_PICTURE_TIMEOUTS: Final = 4
"""A source that sends something, but no picture for so many read timeouts, counts as broken."""
_SLACK_SECONDS: Final = 10.0
_MAX_WARNINGS: Final = 20
_MISSED: Final = "the decoder was busy with earlier pictures until this one was gone"
_STOPPED: Final = "the program does not read the source any more"
_MEASURED_PICTURES: Final = 25
_MEASURED_SECONDS: Final = 2.0
_LEAST_STEPS: Final = 2
_PUSHED_SPEED: Final = 4.0
"""What is pushed comes picture by picture; but what came until we looked is there at once: there is to catch up."""


class Pulse:
    """Says once a second that the request is at work, as long as the decoding thread shows itself now and then.

    A read of FFmpeg's own (RTSP) shows nothing before it ends, but ends by its timeouts; what takes much longer hangs,
    and the parent is to notice.
    """

    def __init__(self, request: Request, access: SourceAccess) -> None:
        self._request = request
        self._longest = access.connect_timeout + 2 * access.read_timeout + _SLACK_SECONDS
        self._beat = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def beat(self) -> None:
        """The decoding thread is not stuck. Raises CancelledError when the request is to end."""
        if self._request.cancelled:
            raise CancelledError
        self.touch()

    def touch(self) -> None:
        """The same, however the request stands."""
        self._beat = time.monotonic()

    def _run(self) -> None:
        with contextlib.suppress(ParentGoneError):
            while not self._stopped.wait(PROGRESS_SECONDS / 2):
                stuck = time.monotonic() - self._beat > self._longest
                if not stuck and self._request.silent_seconds >= PROGRESS_SECONDS:
                    self._request.say_progress()

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()


class Followed:
    """One `FollowSource` at work. `clock`: Unix time in seconds."""

    def __init__(
        self,
        request: Request,
        work: FollowSource,
        slots: FrameSlots,
        *,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._request = request
        self._work = work
        self._resolver = resolver
        self._clock = clock
        self._outbox = Outbox(request, work, slots)
        self._tap = None if work.feed is None else Tap(work.feed, bursts=work.access.transport == "hls")
        self._pulse = Pulse(request, work.access)
        self._cutter = Cutter(work.segment_seconds)
        self._pacer: Pacer | None = None
        self._pace = None if work.live else Pace(work.access.total_timeout)
        self._timeline: Timeline | None = None
        self._number = work.first_frame - 1 if work.live else 0
        self._seen = 0
        self._missed = 0
        """Pictures that came before the next one that will be decoded, and have no number yet."""
        self._connected = False
        self._age = 0.0
        """Of the first picture, in seconds."""
        self._picture_at = time.monotonic()
        self._decode_seconds = 0.0
        self._warnings: list[str] = []

    def run(self) -> SegmentDone:
        """Until the source ends, breaks off, or the request is cancelled.

        Raises SourceError where the source cannot be analysed, or gave no picture; OSError.
        """
        failure: SourceError | None = None
        ended = False
        with self._pulse:
            self._outbox.start()
            if self._tap is not None:
                self._tap.start()
            try:
                self._follow()
                ended = True
            except SourceError as error:
                failure = error
            except CancelledError:
                pass
            finally:
                if self._tap is not None:
                    self._tap.end("" if ended else failure.reason if failure else _STOPPED)
                self._outbox.finish(self._pulse.touch)
        if failure is not None and (failure.permanent or not self._connected):
            raise failure
        return self._done(ended=ended, broken=failure.reason if failure else None)

    def _follow(self) -> None:
        with open_source(
            self._work.access,
            live=self._work.live,
            watch=self._watch,
            on_cancel=self._request.on_cancel,
            resolver=self._resolver,
            behind=self._work.behind,
        ) as source:
            pushed = self._work.access.transport in PUSH_KINDS
            self._pacer = Pacer(_PUSHED_SPEED if pushed else Pacer.SPEED) if source.live else None
            try:
                with contextlib.closing(source.inputs()) as inputs:
                    while (video := self._next_of(inputs)) is not None:
                        self._decode(video)
            finally:
                self._warnings += source.warnings
                self._missed += source.lost
                if self._connected:
                    self._outbox.lose(self._missed_numbers(), _MISSED)

    def _next_of(self, inputs: Iterator[OpenVideo]) -> OpenVideo | None:
        """None after the last. To open one is to wait for the source, too."""
        asked = time.monotonic()
        video = next(inputs, None)
        self._waited_since(asked)
        return video

    def _waited_since(self, asked: float) -> None:
        if self._pace is not None:
            self._pace.waited(time.monotonic() - asked)

    def _watch(self) -> None:
        """Called in every wait for the source. Raises CancelledError, SourceError."""
        self._pulse.beat()
        patience = _PICTURE_TIMEOUTS * self._work.access.read_timeout
        if time.monotonic() - self._picture_at > patience:
            raise SourceError(f"no picture came for {patience:g} s", permanent=False)

    def _decode(self, video: OpenVideo) -> None:
        """All pictures of one input."""
        if self._timeline is not None and not video.goes_on:
            self._timeline.break_off()
        self._missed += video.lost
        if self._tap is not None:
            self._tap.begin(video)
        rate = frame_rate(video)
        try:
            for picture in self._pictures(video):
                check_dimensions(picture.width, picture.height)
                self._take(video, picture, rate)
                self._picture_at = time.monotonic()
                self._pulse.beat()
                self._request.step()
        finally:
            damaged = video.damaged - (video.failure is not None)  # the failure is told by itself
            if damaged and len(self._warnings) < _MAX_WARNINGS:
                self._warnings.append(f"{damaged} packets could not be decoded: {video.last_error}")

    def _pictures(self, video: OpenVideo) -> Iterator[VideoFrame]:
        asked = time.monotonic()
        for packet in video.packets():
            self._waited_since(asked)
            if self._tap is not None:
                self._tap.put(packet)
            started = time.monotonic()
            pictures = list(video.pictures(iter((packet,))))
            self._decode_seconds += time.monotonic() - started
            yield from pictures
            asked = time.monotonic()

    def _take(self, video: OpenVideo, picture: VideoFrame, rate: float | None) -> None:
        """Number the picture, and put it out if it is sampled."""
        if not self._connected:
            self._age = video.age_of(picture)
        timestamp = self._timestamp(picture, rate)
        if self._pace is not None:
            self._pace.reached(timestamp)
        if self._pacer is not None:
            pause(self._pacer.delay(timestamp, time.monotonic()), self._watch)
        missed = self._missed_numbers()
        self._number += 1
        if self._number < self._work.first_frame:
            return
        if not self._connected:
            self._request.say(Connected(self._number, timestamp, self._clock() - self._age))
            self._connected = True
        if missed:
            self._outbox.lose(missed, _MISSED)
        if self._cutter.is_cut_before(timestamp, keyframe=picture.key_frame):
            self._outbox.cut(self._number - 1, self._seen, self._pulse.beat)
            self._seen = 0
        self._seen += 1
        if self._number % self._work.frame_step == 0:
            source_time = None if self._tap is None else self._tap.source_time(picture)
            self._put(
                NumberedPicture(self._number, timestamp, picture, video.position_of(picture), source_time)
            )

    def _missed_numbers(self) -> list[int]:
        """The sampled ones of those that were missed, which have their numbers now."""
        before, self._number, self._missed = self._number, self._number + self._missed, 0
        step = self._work.frame_step
        return list(range(before - before % step + step, self._number + 1, step))

    def _put(self, numbered: NumberedPicture) -> None:
        self._outbox.put(numbered, self._decode_seconds, self._pulse.beat)
        self._decode_seconds = 0.0

    def _timestamp(self, picture: VideoFrame, rate: float | None) -> float:
        if self._timeline is None:
            self._timeline = Timeline(self._first_timestamp(), live=self._work.live)
        return self._timeline.at(own_timestamp(picture), time.monotonic(), rate)

    def _first_timestamp(self) -> float | None:
        if not self._work.live:
            return None
        start = self._work.timeline_start
        return max(self._work.timeline_least, 0.0 if start is None else self._clock() - self._age - start)

    def _done(self, *, ended: bool, broken: str | None) -> SegmentDone:
        seen = self._seen + self._outbox.unsaid_seen
        unfinished = seen > 0 and not self._outbox.between_segments
        return SegmentDone(
            unused_slots=self._request.unused_slots(),
            missing=(),
            frames_seen=seen if unfinished else 0,
            last_frame=self._number if unfinished else None,
            end_of_source=ended,
            warnings=tuple(self._warnings[:_MAX_WARNINGS]),
            broken=broken,
        )


def probe_source(request: Request, work: ProbeSource, *, resolver: Resolver = system_resolver) -> Probed:
    """Connect, decode the first picture, disconnect. Raises SourceError, CancelledError."""
    started = time.monotonic()
    patience = work.access.connect_timeout + _PICTURE_TIMEOUTS * work.access.read_timeout

    with Pulse(request, work.access) as pulse:

        def watch() -> None:
            pulse.beat()
            if time.monotonic() - started > patience:
                raise SourceError(f"no picture came for {patience:g} s", permanent=False)

        with (
            open_source(
                work.access, live=None, watch=watch, on_cancel=request.on_cancel, resolver=resolver
            ) as source,
            contextlib.closing(source.inputs()) as inputs,
        ):
            return Probed(_first_described(source, inputs))


def _first_described(source: FollowedSource, inputs: Iterator[OpenVideo]) -> SourceInfo:
    damaged = 0
    for video in inputs:
        pictures = video.pictures()
        for first in pictures:
            check_dimensions(first.width, first.height)
            return _described(source, video, first, _measured_rate(itertools.chain((first,), pictures)))
        damaged += video.damaged
    raise SourceError(f"the source ended before a picture could be decoded ({damaged} damaged packets)")


def _measured_rate(pictures: Iterator[VideoFrame]) -> float | None:
    """Pictures a second over the first moments; None where they do not tell. What sources say of it is often wrong."""
    until = time.monotonic() + _MEASURED_SECONDS
    times: list[float] = []
    for picture in itertools.islice(pictures, _MEASURED_PICTURES):
        if (own := own_timestamp(picture)) is not None:
            times.append(own)
        if time.monotonic() > until:
            break
    steps = [later - earlier for earlier, later in itertools.pairwise(times) if later > earlier]
    return 1 / (sum(steps) / len(steps)) if len(steps) >= _LEAST_STEPS else None


def _described(
    source: FollowedSource, video: OpenVideo, first: VideoFrame, measured: float | None
) -> SourceInfo:
    orientation = orientation_of(first)
    width, height = (first.height, first.width) if orientation.lies_on_side else (first.width, first.height)
    return SourceInfo(
        container=video.container.format.name if source.container == "http" else source.container,
        codec=video.stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        rotation=orientation.quarter_turns * 90,
        duration=source.duration,
        frame_rate=measured or frame_rate(video),
        frames=None,
        indexed=False,
        pts_digest=None,
        truncated=None,
        segments=(),
        warnings=source.warnings,
        live=source.live,
    )
