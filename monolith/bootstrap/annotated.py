"""Wires annotated videos and pictures: for the program, and for reading alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from monolith.domain.detection import Detection
from monolith.exports.annotated import AnnotatedVideos
from monolith.exports.files import AnnotatedFiles
from monolith.exports.making import Maker
from monolith.frames.annotate import annotate
from monolith.frames.jpeg import decode, encode
from monolith.readmodels.queries import ReadModels
from monolith.settings import Settings
from monolith.storage import FileStorage

_ANNOTATED_QUALITY: Final = 90


@asynccontextmanager
async def running_annotated(
    settings: Settings, folder: Path, read_models: ReadModels, storage: FileStorage
) -> AsyncIterator[AnnotatedVideos]:
    """Those of the data directory `folder`, which this process owns; leaving ends what is under way. Raises OSError."""
    files = AnnotatedFiles(
        folder,
        storage.annotated_folder,
        most_bytes=settings.annotated_cache_bytes,
        room_bytes=storage.room_bytes,
    )
    maker = Maker(read_models, files, storage.pack_path)
    async with AnnotatedVideos(read_models, maker, files, at_once=settings.annotated_jobs) as videos:
        yield videos


def annotated_jpeg(jpeg: bytes, detections: Sequence[Detection]) -> bytes:
    """A stored JPEG with boxes, labels and swatches drawn. Blocks: for threads."""
    return encode(annotate(decode(jpeg), detections), _ANNOTATED_QUALITY)
