from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventsourcing.codec import EventCodec
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.models import MODEL_KEYS
from monolith.exports.pages import findings_pages
from monolith.readmodels.findings import (
    ExtentSlice,
    Findings,
    extent_of,
    read_extent_slice,
)
from monolith.readmodels.queries import ReadModels
from monolith.readmodels.results import ResultFilter, select_runs
from tests.unit.readmodels.story import (
    CAR,
    COLORS,
    FACE,
    FACES,
    OBJECTS,
    SECOND_RUN,
    UNSURE,
    VIDEO,
    Streamed,
    analysed,
    completed,
    probed,
    recorded,
    requested,
    stored,
    submitted,
    whole_video,
)

ALL = ResultFilter()


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[ReadModels]:
    opened = await ReadModels.open(tmp_path / "read.db", EventCodec(DOMAIN_EVENTS))
    yield opened
    await opened.close()


async def project(models: ReadModels, story: list[Streamed]) -> None:
    await models.projection.apply(recorded(story))


async def found(
    models: ReadModels, wanted: ResultFilter = ALL, page: int = 3, models_: tuple[str, ...] = ()
) -> list[Findings]:
    video = await models.video(VIDEO)
    pages = findings_pages(models, video, select_runs(video, models=models_), wanted, page)
    return [frame async for frames in pages for frame in frames]


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_each_frame_comes_once_with_all_its_models(models: ReadModels, page: int) -> None:
    await project(models, whole_video((COLORS, FACES, OBJECTS), frames=7))
    frames = await found(models, page=page)
    assert [frame.frame_number for frame in frames] == list(range(1, 8))
    assert all({key for key, _ in frame.found} == set(MODEL_KEYS) for frame in frames)
    assert (frames[2].timestamp, frames[2].offset, frames[2].length) == (0.12, 30, 10)
    assert (frames[2].width, frames[2].height, frames[2].pack) == (640, 272, "000000-1.mjpeg")


async def test_what_is_not_sure_is_left_out_by_default(models: ReadModels) -> None:
    await project(models, whole_video((OBJECTS,), frames=1))
    assert (await found(models))[0].detections == (CAR,)
    assert (await found(models, ResultFilter(min_confidence=0)))[0].detections == (CAR, UNSURE)


async def test_filters_choose_frames_models_and_labels(models: ReadModels) -> None:
    await project(models, whole_video((FACES, OBJECTS), frames=10))
    assert [f.frame_number for f in await found(models, ResultFilter(from_time=0.1, to_time=0.2))] == [
        3,
        4,
        5,
    ]
    assert [f.frame_number for f in await found(models, ResultFilter(from_frame=4, to_frame=5))] == [4, 5]
    only_faces = await found(models, models_=(FACES,))
    assert {frame.detections for frame in only_faces} == {(FACE,)}
    labelled = await found(models, ResultFilter(label="car"))
    assert [frame.detections for frame in labelled] == [(CAR,)] * 10


async def test_runs_of_other_steps_are_put_together(models: ReadModels) -> None:
    """Objects of every frame by one run, faces of every third by another."""
    second = [requested((FACES,), 3, run_id=SECOND_RUN), analysed((3, 6), FACES, run_id=SECOND_RUN)]
    await project(models, [*whole_video((OBJECTS,), frames=7), *second, *completed(2, SECOND_RUN)])
    frames = await found(models, page=2)
    assert [frame.frame_number for frame in frames] == list(range(1, 8))
    assert [frame.frame_number for frame in frames if FACE in frame.detections] == [3, 6]


async def test_a_result_without_its_picture_is_left_out(models: ReadModels) -> None:
    await project(models, [*submitted(), *probed(), stored([1, 3]), analysed([1, 2, 3])])
    assert [frame.frame_number for frame in await found(models)] == [1, 3]


async def test_a_selection_of_nothing_finds_nothing(models: ReadModels) -> None:
    await project(models, whole_video((OBJECTS,), frames=3))
    assert await found(models, models_=(FACES,)) == []


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_the_extent_is_known_from_slices(models: ReadModels, limit: int) -> None:
    await project(models, [*submitted(), *probed(), stored(range(2, 8))])
    number = (await models.video(VIDEO)).video_no

    async def slice_after(frame: int) -> ExtentSlice:
        return await models.read(
            lambda c: read_extent_slice(c, number, ResultFilter(to_frame=6), frame, limit)
        )

    slices: list[ExtentSlice] = []
    after: int | None = 0
    while after is not None:
        slices.append(await slice_after(after))
        after = slices[-1].last
    extent = extent_of(slices)
    assert extent is not None
    assert (extent.first_frame, extent.last_frame) == (2, 6)
    assert extent.sizes == {(640, 272): 5}
    assert extent_of([]) is None
