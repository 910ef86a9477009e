"""The unavoidable work alone, the limit that the program is measured against: JPEG encode and decode, model inputs,
inference and box decoding, on frames already in memory, in as many processes as there are workers."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier

from benchmarks.media import pictures
from monolith.domain.models import MODEL_KEYS
from monolith.frames import jpeg
from tests.media import sample_clip

QUALITY = 90


def _work(barrier: Barrier, frames: int, threads: int) -> None:
    import cv2

    from monolith.inference.backends.openvino import OpenVinoBackend
    from monolith.inference.models import catalogue

    cv2.setNumThreads(1)
    backend = OpenVinoBackend(threads=threads, precision="f32")
    models = [catalogue.load(key, backend, infer_from="stored") for key in MODEL_KEYS]
    clip = pictures(sample_clip("bikes.mp4"))
    for model in models:
        model.detect(clip[0])
    barrier.wait(120)
    for number in range(frames):
        stored = jpeg.decode(jpeg.encode(clip[number % len(clip)], QUALITY))
        for model in models:
            model.detect(stored)
    barrier.wait(600)


def frames_per_second(frames: int, processes: int | None = None, threads: int = 1) -> float:
    """Frames/s over all `processes` (default: one a core), float32."""
    processes = processes or os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    share = frames // processes
    workers = [context.Process(target=_work, args=(barrier, share, threads)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    barrier.wait(120)
    started = time.perf_counter()
    barrier.wait(600)
    elapsed = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return share * processes / elapsed


if __name__ == "__main__":
    print(f"bare loop: {frames_per_second(600):.1f} frames/s")
