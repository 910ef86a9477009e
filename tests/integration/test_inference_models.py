"""The service with the real models, over real worker processes, on real pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import numpy as np
import pytest

from monolith.domain.detection import ColorShare, FaceDetection, ObjectDetection
from monolith.domain.models import MODEL_KEYS
from monolith.inference.errors import WorkerStartError
from monolith.inference.messages import FrameRef
from monolith.inference.models.catalogue import CATALOGUE
from monolith.inference.pool import WorkerPool
from monolith.inference.service import InferenceService
from monolith.inference.shared_memory import FrameSlots
from monolith.inference.supervisor import WorkerLaunch
from monolith.inference.worker import WorkerConfig
from tests.media import Picture, read_picture
from tests.workers.harness import until

_SLOT_BYTES = 3 * 1280 * 1080


def launch(slots: FrameSlots, config: WorkerConfig) -> WorkerLaunch:
    return WorkerLaunch(config=config, slots_fd=slots.fd, slot_count=slots.count, slot_bytes=slots.slot_bytes)


def put(slots: FrameSlots, slot: int, picture: Picture) -> FrameRef:
    height, width = picture.shape[:2]
    slots.view(slot, height, width)[:] = picture
    return FrameRef(slot, width, height)


@pytest.fixture
async def slots() -> AsyncIterator[FrameSlots]:
    slots = FrameSlots.create(8, _SLOT_BYTES)
    yield slots
    slots.close()


async def test_all_models_judge_real_pictures_alike_in_every_worker(slots: FrameSlots) -> None:
    config = WorkerConfig(models=MODEL_KEYS, precision="f32")
    pool = WorkerPool(launch(slots, config), workers=2)
    service = InferenceService(pool, MODEL_KEYS)
    await service.start()
    try:
        await until(lambda: pool.ready_count == 2)
        for key, identity in service.identities.items():
            assert (identity.key, identity.digest, identity.infer_from) == (
                key,
                CATALOGUE[key].digest,
                "stored",
            )
        bus, zidane = put(slots, 0, read_picture("bus.jpg")), put(slots, 1, read_picture("zidane.jpg"))
        objects, faces, colors, *again = await asyncio.gather(
            service.infer("objects_detection", bus, key="a"),
            service.infer("emotions_detection", zidane, key="b"),
            service.infer("color_detection", bus, key="a"),
            *(service.infer("objects_detection", bus, key="a") for _ in range(7)),
        )
        assert all(state.frames_done for state in service.states())
    finally:
        await service.close()
    assert all(result.detections == objects.detections for result in again)
    seen = {d.class_name for d in objects.detections if isinstance(d, ObjectDetection) and d.confidence > 0.4}
    assert {"bus", "person"} <= seen
    found = [d for d in faces.detections if isinstance(d, FaceDetection) and d.confidence > 0.5]
    assert len(found) == 2
    shares = [d.share for d in colors.detections if isinstance(d, ColorShare)]
    assert len(shares) == 3 and np.isclose(sum(shares), 1)
    assert min(objects.seconds, faces.seconds, colors.seconds) > 0


async def test_an_engine_that_is_not_known_is_a_failed_start_that_says_so(slots: FrameSlots) -> None:
    config = msgspec.structs.replace(WorkerConfig(models=MODEL_KEYS), backend="steam")
    with pytest.raises(WorkerStartError, match="unknown backend 'steam': this worker knows 'openvino'"):
        await WorkerPool(launch(slots, config), workers=1).start()
