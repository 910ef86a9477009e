"""An inference worker: a child process that runs models on frames in shared memory.

Started as `python -m monolith.inference.worker LINK_FD PARENT_PID SLOTS_FD COUNT SLOT_BYTES CONFIG_JSON`. It loads and
warms its models, says `Ready`, then answers batches in the order in which they came. Two threads: the main one runs
the models; the reader takes messages and answers `Ping` at once, also while a batch runs. At the end of the link the
process ends at once, also out of the middle of a batch: nobody would take its results. Signals that go to the whole
process group are ignored (`ChildProcess` sees to that): the parent decides.

The engines are imported by the child alone (`load_models`), never by a parent that imports this module.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from monolith.application.tracing import NoTracing, Tracing
from monolith.child import ParentGoneError, ParentLink, die_with_parent, log_to_parent
from monolith.domain.detection import Detection
from monolith.domain.models import ModelIdentity
from monolith.inference.messages import (
    BatchDone,
    FrameRef,
    FrameResult,
    FromWorker,
    InferBatch,
    Ping,
    Pong,
    Ready,
    ToWorker,
)
from monolith.inference.shared_memory import FrameSlots

_QUEUED_BATCHES: Final = 64
"""Far beyond any depth, so that the reader never waits and always answers pings."""

logger = logging.getLogger(__name__)


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker loads, and how. `models`: keys of the catalogue; `threads`: of the engine; `nice`: added to the
    process's niceness, so that the main process stays responsive; `traces`: where its spans go."""

    models: tuple[str, ...]
    threads: int = 1
    precision: Literal["auto", "f32", "bf16"] = "auto"
    backend: str = "openvino"
    infer_from: str = "stored"
    nice: int = 10
    traces: Literal["off", "otlp", "console"] = "off"


class Model(Protocol):
    """The part of a model that a worker uses."""

    @property
    def identity(self) -> ModelIdentity: ...

    def warm_up(self) -> None: ...

    def detect(self, rgb: npt.NDArray[np.uint8], /) -> tuple[Detection, ...]:
        """`rgb`: height × width × 3."""
        ...


Loader = Callable[[WorkerConfig], Mapping[str, Model]]


def load_models(config: WorkerConfig) -> dict[str, Model]:
    """The catalogue's models. Raises ValueError for an unknown backend, and what the catalogue and backend raise."""
    import cv2

    from monolith.inference.backends.openvino import OpenVinoBackend
    from monolith.inference.models import catalogue

    if config.backend != "openvino":
        raise ValueError(f"unknown backend {config.backend!r}: this worker knows 'openvino'")
    cv2.setNumThreads(1)  # the processes are the parallelism
    backend = OpenVinoBackend(threads=config.threads, precision=config.precision)
    return {key: catalogue.load(key, backend, infer_from=config.infer_from) for key in config.models}


def main(arguments: Sequence[str], load: Loader = load_models) -> None:
    """Run until the end of the link. `arguments`: as in the module's docstring."""
    link_fd, parent_pid, slots_fd, count, slot_bytes = map(int, arguments[:5])
    die_with_parent(parent_pid)
    log_to_parent()
    config = msgspec.json.decode(arguments[5], type=WorkerConfig)
    os.nice(config.nice)
    tracing, end = _tracing(config)
    outbox = _Outbox(ParentLink(link_fd), end)
    batches: queue.Queue[InferBatch] = queue.Queue(_QUEUED_BATCHES)
    threading.Thread(target=_read, args=(outbox, batches), name="reader", daemon=True).start()
    models = load(config)
    for model in models.values():
        model.warm_up()
    slots = FrameSlots.attach(slots_fd, count, slot_bytes)
    outbox.send(Ready(pid=os.getpid(), models=tuple(model.identity for model in models.values())))
    _serve(outbox, batches, models, slots, tracing)


def _tracing(config: WorkerConfig) -> tuple[Tracing, Callable[[], None]]:
    """And what is to be done with it at the end."""
    if config.traces == "off":
        return NoTracing(), lambda: None
    from monolith.telemetry import start_tracing

    tracing = start_tracing(config.traces, "worker")
    return tracing, tracing.close


class _Outbox:
    """The link, with sends from two threads kept whole. `end`: to be called when it ends."""

    def __init__(self, link: ParentLink, end: Callable[[], None]) -> None:
        self.link = link
        self.end = end
        self._lock = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, message: FromWorker) -> None:
        """Raises ParentGoneError."""
        with self._lock:
            self.link.send(self._encoder.encode(message))


def _read(outbox: _Outbox, batches: queue.Queue[InferBatch]) -> None:
    """Ends the process with the link, or with what it cannot read."""
    decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
    try:
        while True:
            message = decoder.decode(outbox.link.receive())
            if isinstance(message, Ping):
                outbox.send(Pong(message.number))
            else:
                batches.put(message)
    except ParentGoneError:
        outbox.end()
        os._exit(0)
    except Exception:
        logger.exception("the reader failed")
        os._exit(1)


def _serve(
    outbox: _Outbox,
    batches: queue.Queue[InferBatch],
    models: Mapping[str, Model],
    slots: FrameSlots,
    tracing: Tracing,
) -> None:
    while True:
        batch = batches.get()
        with _batch_span(tracing, batch):
            results = tuple(_judge(models, batch.model, slots, frame) for frame in batch.frames)
        outbox.send(BatchDone(batch.batch_id, results))


def _batch_span(tracing: Tracing, batch: InferBatch) -> AbstractContextManager[object]:
    """A step of the trace of the batch's first frame, linked to those of the others."""
    if not batch.traces:
        return nullcontext()
    about: dict[str, str | int] = {"model": batch.model, "frames": len(batch.frames)}
    return tracing.continued(batch.traces[0], "infer", about, others=batch.traces[1:])


def _judge(models: Mapping[str, Model], key: str, slots: FrameSlots, frame: FrameRef) -> FrameResult:
    """Never raises an Exception: a frame that cannot be judged says why, the others of its batch go on."""
    started_at, start = time.time(), time.perf_counter()
    try:
        detections = models[key].detect(slots.view(frame.slot, frame.height, frame.width))
        error = None
    except Exception as failure:
        logger.exception("model %s failed on a frame", key)
        detections, error = (), f"{type(failure).__name__}: {failure}"
    return FrameResult(detections, started_at, time.perf_counter() - start, error)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ParentGoneError:
        sys.exit(0)
