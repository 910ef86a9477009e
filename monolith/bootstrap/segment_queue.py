"""Wires the queue through which copies of the program share the segments of files."""

from __future__ import annotations

import time
from typing import Final

from eventsourcing.codec import EventCodec
from eventsourcing.store import EventStore
from monolith.application.hand_out import HandOut
from monolith.application.leadership import LeasedLeadership
from monolith.application.pipeline import SegmentPipeline
from monolith.application.segment_claims import SegmentClaims
from monolith.application.shared_segments import SharedSegments
from monolith.application.video_stream import VideoStreams
from monolith.bootstrap.sharing import Sharing
from monolith.domain.commands import FailSegment
from monolith.domain.jobs import SegmentJob
from monolith.messaging.connection import MessageBroker
from monolith.messaging.segment_queue import RabbitSegmentQueue
from monolith.settings import Settings

_NO_MORE_ATTEMPTS: Final = 1
_HANDS_OUT: Final = "hand-out"


def broker_of(settings: Settings) -> MessageBroker | None:
    """None where the settings name no RabbitMQ. Nothing is connected yet."""
    url = settings.rabbitmq_url.get_secret_value()
    return MessageBroker(url) if url else None


def segment_queue(
    broker: MessageBroker,
    store: EventStore,
    codec: EventCodec,
    streams: VideoStreams,
    pipeline: SegmentPipeline,
    sharing: Sharing,
    *,
    places: int,
) -> RabbitSegmentQueue:
    """`places`: how many segments this copy analyses at the same time."""
    leases = sharing.leases
    assert leases is not None
    claims = SegmentClaims(store, codec, leases, sharing.owner, time.time)

    async def give_up(job: SegmentJob, reason: str) -> None:
        claim = await claims.last(job)
        command = FailSegment(
            at=time.time(),
            run_id=job.run_id,
            segment=job.segment,
            attempt=claim.attempt if claim is not None else 0,
            reason=reason,
            permanent=True,
            attempts_allowed=_NO_MORE_ATTEMPTS,
        )
        await streams.execute(job.video_id, command)

    return RabbitSegmentQueue(
        broker,
        SharedSegments(streams, claims, pipeline.run, give_up, places=places),
        HandOut(time.time),
        claims,
        give_up,
        handing_out=lambda: LeasedLeadership(
            leases, _HANDS_OUT, sharing.owner, title="the one that hands out segments"
        ),
        alive=sharing.alive,
    )
