"""Wires annotated videos and pictures: for the program, and for reading alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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
    settings: Settings, read_models: ReadModels, storage: FileStorage
) -> AsyncIterator[AnnotatedVideos]:
    """They lie with the stored frames that they are made from; leaving ends what is under way. Raises OSError."""
    files = AnnotatedFiles(
        settings.shared_folder,
        storage.annotated_folder,
        most_bytes=settings.annotated_cache_bytes,
        room_bytes=storage.room_bytes,
        shared=settings.shared_dir is not None,
    )
    maker = Maker(read_models, files, storage.pack_path)
    async with AnnotatedVideos(read_models, maker, files, at_once=settings.annotated_jobs) as videos:
        yield videos


def annotated_jpeg(jpeg: bytes, detections: Sequence[Detection]) -> bytes:
    """A stored JPEG with boxes, labels and swatches drawn. Blocks: for threads."""
    return encode(annotate(decode(jpeg), detections), _ANNOTATED_QUALITY)
