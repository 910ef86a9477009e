"""The work of a decoder process: decode a segment, or read stored frames back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av.error

from monolith.domain.segment import StoredFrame
from monolith.frames import jpeg
from monolith.frames.pack import PackError, read_jpeg
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.errors import SourceError
from monolith.ingest.messages import (
    DecodeSegment,
    FrameReady,
    PackSynced,
    ReadStored,
    SegmentDone,
    StoredFrameSource,
)
from monolith.ingest.numbering import IndexedReader, NumberedPicture, SequentialReader
from monolith.ingest.output import SYNC_FRAMES, FrameOutput
from monolith.ingest.reader import open_video
from monolith.ingest.requests import CancelledError, Request
from monolith.ingest.sampler import Sampler
from monolith.ingest.scan import PtsTable, digest_of, load_table, save_table, scan_packets

_MAX_WARNINGS: Final = 20


class SegmentDecoding:
    """One `DecodeSegment` at work: counts what is seen, put out, and lost."""

    def __init__(self, request: Request, work: DecodeSegment, slots: FrameSlots) -> None:
        self._request = request
        self._work = work
        self._slots = slots
        self._seen = 0
        self._met: int | None = None
        self._out: set[int] = set()
        self._warnings: list[str] = []

    def indexed(self) -> SegmentDone:
        """Raises SourceError, OSError."""
        table = self._table()
        last = min(self._work.last_frame or len(table), len(table))
        sampler = self._sampler(last)
        finished = True
        if sampler.first is not None and sampler.last is not None:
            reader = IndexedReader(Path(self._work.path), table)
            finished = self._run(reader.read(sampler.first, sampler.last, self._request.step), sampler)
            self._warn_of_damage(reader)
        return self._done(
            missing=sampler.missing(self._out, last) if finished else (),
            last_frame=last if finished and last >= self._work.first_frame else self._met,
            end_of_source=finished and last == len(table),
        )

    def sequential(self, reader: SequentialReader) -> SegmentDone:
        """Raises SourceError, OSError."""
        last = self._work.last_frame
        sampler = self._sampler(last)
        damaged_before = reader.damaged
        finished = self._run(reader.read(self._work.first_frame, last, self._request.step), sampler)
        self._warn_of_damage(reader, damaged_before)
        return self._done(
            missing=sampler.missing(self._out, self._met) if finished else (),
            last_frame=self._met,
            end_of_source=reader.at_end,
        )

    def _sampler(self, last: int | None) -> Sampler:
        return Sampler(self._work.first_frame, last, self._work.frame_step, self._work.skip)

    def _run(self, pictures: Iterator[NumberedPicture], sampler: Sampler) -> bool:
        """Whether it came to the end of `pictures` (else it was cancelled)."""
        output = FrameOutput(self._request, self._work, self._work.pack_path, self._slots)
        try:
            for numbered in pictures:
                self._seen += 1
                self._met = numbered.number
                if numbered.number in sampler:
                    self._put(output, numbered)
                output.sync_if_due()
        except CancelledError:
            return False
        finally:
            output.close()
        return True

    def _put(self, output: FrameOutput, numbered: NumberedPicture) -> None:
        try:
            output.put(numbered)
        except (av.error.FFmpegError, jpeg.JpegError) as error:
            self._warnings.append(f"frame {numbered.number} could not be converted: {error}")
        else:
            self._out.add(numbered.number)

    def _table(self) -> PtsTable:
        """The table that numbered the frames, scanned again where it is lost. Raises SourceError."""
        scan_path = Path(self._work.scan_path)
        table = load_table(scan_path)
        if table is None or digest_of(table) != self._work.pts_digest:
            with open_video(Path(self._work.path)) as video:
                table = scan_packets(video, self._request.step).pts
            if table is None or digest_of(table) != self._work.pts_digest:
                raise SourceError(
                    "the source has changed since it was scanned: its frames would get other numbers;"
                    " submit it as a new video"
                )
            save_table(scan_path, table)
        return table

    def _warn_of_damage(self, reader: IndexedReader | SequentialReader, before: int = 0) -> None:
        if (damaged := reader.damaged - before) > 0:
            self._warnings.append(f"{damaged} packets could not be decoded: {reader.last_error}")

    def _done(self, *, missing: tuple[int, ...], last_frame: int | None, end_of_source: bool) -> SegmentDone:
        return SegmentDone(
            unused_slots=self._request.unused_slots(),
            missing=missing,
            frames_seen=self._seen,
            last_frame=last_frame,
            end_of_source=end_of_source,
            warnings=tuple(self._warnings[:_MAX_WARNINGS]),
        )


def read_stored(request: Request, work: ReadStored, slots: FrameSlots) -> SegmentDone:
    """Put stored frames into slots, in order. What cannot be read is missing, with a warning that says why.

    Raises SourceError (not permanent) for a picture that is greater than the slots: it is there, and must not be given
    up because they are small.
    """
    missing: list[int] = []
    warnings: list[str] = []
    seen = 0
    try:
        for source in work.frames:
            request.step()
            try:
                _hand_over(request, source, slots)
                seen += 1
            except (PackError, jpeg.JpegError, ValueError) as error:
                missing.append(source.frame.frame_number)
                warnings.append(f"frame {source.frame.frame_number}: {error}")
            if seen % SYNC_FRAMES == 0:
                request.say(PackSynced(source.frame.frame_number))
    except CancelledError:
        pass
    else:
        if work.frames:
            request.say(PackSynced(work.frames[-1].frame.frame_number))
    return SegmentDone(
        unused_slots=request.unused_slots(),
        missing=tuple(missing),
        frames_seen=seen,
        last_frame=max((source.frame.frame_number for source in work.frames), default=None),
        end_of_source=False,
        warnings=tuple(warnings[:_MAX_WARNINGS]),
    )


def _hand_over(request: Request, source: StoredFrameSource, slots: FrameSlots) -> None:
    frame = source.frame
    _check_size(frame, slots)
    data = read_jpeg(Path(source.pack_path), frame.offset, frame.length)
    slot = request.take_slot(wait=True)
    assert slot is not None
    try:
        jpeg.decode_into(data, slots.view(slot, frame.height, frame.width))
    except BaseException:
        request.put_back(slot)
        raise
    request.say(
        FrameReady(slot=slot, frame=frame, decode_seconds=0.0, resize_seconds=0.0, encode_seconds=0.0)
    )


def _check_size(frame: StoredFrame, slots: FrameSlots) -> None:
    needed = frame.height * frame.width * 3
    if needed > slots.slot_bytes:
        raise SourceError(
            f"stored frame {frame.frame_number} of {frame.width}×{frame.height} pixels needs {needed} bytes, a frame"
            f" slot has {slots.slot_bytes}: start with a frame height of at least {frame.height}",
            permanent=False,
        )
