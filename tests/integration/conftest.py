"""What all tests of decoder processes need: slots, and a pool that fills them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from tests.integration.decoding import SLOTS


@pytest.fixture
def slots() -> Iterator[FrameSlots]:
    slots = FrameSlots.create(SLOTS, 640 * 480 * 3)
    yield slots
    slots.close()


@pytest.fixture
async def pool(slots: FrameSlots) -> AsyncIterator[DecoderPool]:
    async with DecoderPool(slots, 2) as pool:
        yield pool
