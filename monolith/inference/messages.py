"""What the parent and its inference workers say to each other (msgpack over a socket pair). Pixels never travel."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from monolith.domain.detection import Detection
from monolith.domain.models import ModelIdentity


class FrameRef(msgspec.Struct, frozen=True, array_like=True):
    """An opaque handle of a frame's pixels: RGB, uint8, `height` × `width` × 3, contiguous, in slot `slot` of
    the shared memory that the parent owns."""

    slot: int
    width: int
    height: int


class InferBatch(msgspec.Struct, frozen=True, tag="infer", omit_defaults=True):
    """Parent → worker: run model `model` on `frames`, in order. `traces`: traceparents of what the frames are judged
    for, each once, where traces are wanted."""

    batch_id: int
    model: str
    frames: tuple[FrameRef, ...]
    traces: tuple[str, ...] = ()


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Parent → worker: answer with `Pong` of the same number."""

    number: int


class FrameResult(msgspec.Struct, frozen=True):
    """What the model found in one frame. `started_at`: Unix seconds; `seconds`: inference with pre- and
    post-processing; `error`: why this frame could not be judged (then `detections` is empty)."""

    detections: tuple[Detection, ...]
    started_at: float
    seconds: float
    error: str | None = None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Worker → parent, once: models are loaded and warm."""

    pid: int
    models: tuple[ModelIdentity, ...]


class BatchDone(msgspec.Struct, frozen=True, tag="done"):
    """Worker → parent: one result for each frame of the batch, in order."""

    batch_id: int
    results: tuple[FrameResult, ...]


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Worker → parent: alive."""

    number: int


ToWorker: TypeAlias = InferBatch | Ping
FromWorker: TypeAlias = Ready | BatchDone | Pong
