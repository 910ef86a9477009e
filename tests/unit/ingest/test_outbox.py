"""What of a live source waits for a slot, and what is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from av.video.frame import VideoFrame

from monolith.inference.shared_memory import FrameSlots
from monolith.ingest import outbox
from monolith.ingest.messages import (
    FollowSource,
    FrameReady,
    FramesLost,
    FromDecoder,
    SourceAccess,
    StartSegment,
)
from monolith.ingest.numbering import NumberedPicture
from monolith.ingest.outbox import Outbox
from monolith.ingest.requests import Request

SIZE = 32
SLOTS = 4
ALL = range(1, 9)


class Parent:
    """Hears what the decoder says. `gives_back`: each slot is lent again at once."""

    def __init__(self, *, gives_back: bool) -> None:
        self.gives_back = gives_back
        self.request: Any = None
        self.ready: list[int] = []
        self.lost: list[int] = []

    def send(self, data: bytes) -> None:
        message = msgspec.msgpack.decode(data, type=FromDecoder)
        if isinstance(message, FrameReady):
            self.ready.append(message.frame.frame_number)
            if self.gives_back:
                threading.Timer(0.02, self.request.lend, [[message.slot]]).start()
        elif isinstance(message, FramesLost):
            self.lost += message.frame_numbers


@pytest.fixture
def slots() -> Iterator[FrameSlots]:
    slots = FrameSlots.create(SLOTS, SIZE * SIZE * 3)
    yield slots
    slots.close()


def put_all_at_once(folder: Path, slots: FrameSlots, parent: Parent, transport: str) -> None:
    """As many slots as there are, and twice as many pictures."""
    start = StartSegment(segment=0, pack_path=str(folder / "pack.mjpeg"), skip=())
    access = SourceAccess("", transport, loopback_only=True, networks=())  # type: ignore[arg-type]
    work = FollowSource(access, True, 1, None, 1, SIZE, 90, "stored", 60.0, start)
    request = parent.request = Request(work, parent)  # type: ignore[arg-type]
    request.lend(range(SLOTS))
    out = Outbox(request, work, slots)
    out.start()
    for number in ALL:
        picture = VideoFrame.from_ndarray(np.zeros((SIZE, SIZE, 3), np.uint8), format="rgb24")
        out.put(NumberedPicture(number, number / 25, picture), 0.0, lambda: None)
    if not parent.gives_back:
        request.lend(range(SLOTS))
    out.finish(lambda: None)


def test_what_was_published_before_it_is_followed_waits_for_slots(
    tmp_path: Path, slots: FrameSlots, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("_CATCH_UP_PATIENCE", "_CATCH_UP_SECONDS"):
        monkeypatch.setattr(outbox, patience, 60.0)
    parent = Parent(gives_back=True)
    put_all_at_once(tmp_path, slots, parent, "rtmp")
    assert (parent.ready, parent.lost) == (list(ALL), [])


@pytest.mark.parametrize("transport", ["rtmp", "rtsp"])
def test_the_newest_picture_wins_where_slots_do_not_come(
    tmp_path: Path, slots: FrameSlots, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_CATCH_UP_PATIENCE", 0.05)
    parent = Parent(gives_back=False)
    put_all_at_once(tmp_path, slots, parent, transport)
    assert (parent.ready, parent.lost) == ([1, 2, 3, 4, 8], [5, 6, 7])
