"""Where a decoder puts its frames: JPEG into the pack, pixels into a slot, word to the parent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np

from monolith.domain.segment import StoredFrame
from monolith.frames import jpeg
from monolith.frames.pack import PackWriter
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.messages import DecodeSegment, FollowSource, FrameReady, PackSynced
from monolith.ingest.numbering import NumberedPicture
from monolith.ingest.picture import Converter
from monolith.ingest.requests import Request

SYNC_FRAMES: Final = 32
"""After so many frames at most the parent hears that it may record them."""
_SYNC_SECONDS: Final = 0.25


class FrameOutput:
    """Takes the sampled pictures of one segment. The pack is synced every 32 frames or 250 ms, and before it
    has to wait for a slot (nothing better to do then)."""

    def __init__(
        self, request: Request, work: DecodeSegment | FollowSource, pack_path: str, slots: FrameSlots
    ) -> None:
        self._request = request
        self._slots = slots
        self._quality = work.jpeg_quality
        self._from_stored = work.infer_from == "stored"
        self._converter = Converter(work.max_height, slots.slot_bytes)
        self._pack = PackWriter(Path(pack_path))
        self.unsynced = 0
        """Frames that the parent has not heard to be on the disk."""
        self._newest = 0
        self._synced_at = self._ended_at = time.monotonic()

    def put(self, numbered: NumberedPicture) -> None:
        """Convert, store and hand over one picture. Raises CancelledError, av.error.FFmpegError, JpegError, OSError."""
        decoded = time.monotonic() - self._ended_at
        self.put_into(self._slot(), numbered, decoded)
        self._ended_at = time.monotonic()

    def put_into(self, slot: int, numbered: NumberedPicture, decode_seconds: float) -> None:
        """The same, into `slot`, which goes back to the others where this raises."""
        started = time.monotonic()
        try:
            picture = self._converter.rgb(numbered.picture)
            resized = time.monotonic()
            frame, data = self._store(numbered, picture)
            encoded = time.monotonic()
            self._fill(slot, frame, data, picture)
        except BaseException:
            self._request.put_back(slot)
            raise
        self._request.say(
            FrameReady(
                slot=slot,
                frame=frame,
                decode_seconds=decode_seconds,
                resize_seconds=resized - started,
                encode_seconds=encoded - resized,
                source_time=_source_time(numbered),
                position=numbered.position,
            )
        )

    def _slot(self) -> int:
        slot = self._request.take_slot(wait=False)
        if slot is None:
            self.sync()
            slot = self._request.take_slot(wait=True)
        assert slot is not None
        return slot

    def _store(self, numbered: NumberedPicture, picture: jpeg.Picture) -> tuple[StoredFrame, bytes]:
        height, width, _ = picture.shape
        data = jpeg.encode(picture, self._quality)
        frame = StoredFrame(
            frame_number=numbered.number,
            timestamp=numbered.timestamp,
            offset=self._pack.append(data),
            length=len(data),
            width=width,
            height=height,
        )
        self.unsynced += 1
        self._newest = numbered.number
        return frame, data

    def _fill(self, slot: int, frame: StoredFrame, data: bytes, picture: jpeg.Picture) -> None:
        view = self._slots.view(slot, frame.height, frame.width)
        if self._from_stored:
            jpeg.decode_into(data, view)
        else:
            np.copyto(view, picture)

    @property
    def unsynced_seconds(self) -> float | None:
        """Since the last sync, where there are frames that it has not brought to the disk; else None."""
        return time.monotonic() - self._synced_at if self.unsynced else None

    def sync_if_due(self) -> None:
        if self.unsynced >= SYNC_FRAMES or time.monotonic() - self._synced_at >= _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Bring all frames to the disk and say so. Raises OSError."""
        if self.unsynced:
            self._pack.sync()
            self.unsynced = 0
            self._request.say(PackSynced(self._newest))
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Sync and close the pack."""
        try:
            self.sync()
        finally:
            self._pack.close()


def _source_time(numbered: NumberedPicture) -> float | None:
    picture = numbered.picture
    if numbered.source_time is not None:
        return numbered.source_time
    if picture.pts is None or not picture.time_base:
        return None
    return float(picture.pts * picture.time_base)
