"""What the tests of decoder processes share: a pool, requests, and a consumer that behaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from monolith.application.ports import DecodeRequest
from monolith.domain.segment import SegmentPlan, SourceInfo, StoredFrame
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.messages import DecodeSegment, FrameReady, PackSynced, SegmentDone
from monolith.ingest.sessions import DecodeSession
from tests.videos import read_barcode

SLOTS = 4


@dataclass
class Outcome:
    """All that came out of a session: `shown` by frame number is what the slots really held."""

    frames: list[StoredFrame] = field(default_factory=list)
    shown: dict[int, int] = field(default_factory=dict)
    synced: list[int] = field(default_factory=list)
    done: SegmentDone | None = None

    @property
    def numbers(self) -> list[int]:
        return [frame.frame_number for frame in self.frames]


def segment_request(
    path: Path,
    info: SourceInfo,
    plan: SegmentPlan | None = None,
    *,
    pack: str = "pack.mjpeg",
    frame_step: int = 1,
    skip: tuple[int, ...] = (),
    max_height: int = 720,
    infer_from: str = "stored",
) -> DecodeSegment:
    """A request for `plan` (None: the whole file), its pack and scan beside the video."""
    return DecodeSegment(
        path=str(path),
        scan_path=str(path.with_name("scan.npy")),
        pts_digest=info.pts_digest,
        first_frame=plan.first_frame if plan else 1,
        last_frame=plan.last_frame if plan else info.frames,
        frame_step=frame_step,
        skip=skip,
        pack_path=str(path.parent / pack),
        max_height=max_height,
        jpeg_quality=95,
        infer_from=infer_from,
    )


async def probe(pool: DecoderPool, path: Path, segment_seconds: float = 0.5) -> SourceInfo:
    return await pool.probe(path, path.with_name("scan.npy"), segment_seconds)


async def run(pool: DecoderPool, slots: FrameSlots, request: DecodeRequest) -> Outcome:
    """Do the request to its end, giving each slot back as soon as it was read."""
    async with pool.open(request) as session:
        await session.lend(range(slots.count))
        outcome = await consume(session, slots)
        assert session.outstanding_slots == frozenset()
    return outcome


async def consume(session: DecodeSession, slots: FrameSlots) -> Outcome:
    outcome = Outcome()
    async for message in session:
        match message:
            case FrameReady(slot=slot, frame=frame):
                outcome.frames.append(frame)
                outcome.shown[frame.frame_number] = read_barcode(slots.view(slot, frame.height, frame.width))
                await session.lend([slot])
            case PackSynced(number):
                outcome.synced.append(number)
            case SegmentDone():
                outcome.done = message
    return outcome
