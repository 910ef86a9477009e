from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from monolith.domain.detection import ColorShare
from monolith.readmodels.detections import DetectionTables
from monolith.readmodels.results import ResultFilter
from monolith.readmodels.summary import Findings, findings, models_at_work
from tests.unit.readmodels.segments import World, closed, found_in, plain, whole_segment, world
from tests.unit.readmodels.story import (
    CAR,
    COLORS,
    FACE,
    FACES,
    OBJECTS,
    RUN,
    SECOND_RUN,
    VIDEO,
    requested,
    submitted,
)

MODELS = (OBJECTS, FACES, COLORS)


async def ask(
    made: World, wanted: ResultFilter | None = None, models: Sequence[str] = ()
) -> tuple[DetectionTables, Findings]:
    return await made.reader.ask(
        VIDEO, wanted or ResultFilter(), lambda tables: (tables, findings(tables)), models=models
    )


async def test_a_class_is_summed_up_over_the_video(tmp_path: Path) -> None:
    events = [
        found_in([1, 2], 0, found=(CAR,)),
        *closed(0),
        found_in([5], 1, found=(CAR, CAR)),
        found_in([6], 1, found=()),
    ]
    async with world(tmp_path, submitted(), events) as made:
        _, found = await ask(made)
        assert plain(found.objects) == [
            {
                "label": "car", "run_id": RUN, "frames": 3, "detections": 4, "greatest": 2, "first_time": 0.04,
                "last_time": 0.2, "mean_confidence": 0.8731,
            }
        ]  # fmt: skip
        assert (found.faces, found.emotions, found.palette) == (None, (), None)
        assert (found.first_time, found.last_time) == (0.04, 0.24)


async def test_faces_emotions_and_colours(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(MODELS), whole_segment(0, MODELS)) as made:
        _, found = await ask(made)
        assert found.faces is not None
        assert (found.faces.label, found.faces.frames, found.faces.detections) == ("face", 4, 4)
        assert plain(found.emotions) == [
            {
                "emotion": "happy",
                "run_id": RUN,
                "frames": 4,
                "detections": 4,
                "share": 1.0,
                "mean_probability": 0.75,
            }
        ]
        assert plain(found.palette) == {
            "run_id": RUN,
            "frames": 4,
            "colors": [
                {"color": "#102030", "share": 0.5},
                {"color": "#405060", "share": 0.3},
                {"color": "#708090", "share": 0.2},
            ],
        }


async def test_a_threshold_and_models_narrow_it(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(MODELS), whole_segment(0, MODELS)) as made:
        _, unsure = await ask(made, ResultFilter(min_confidence=0.1), (OBJECTS,))
        assert [one.label for one in unsure.objects] == ["car", "person"]
        assert (unsure.faces, unsure.palette) == (None, None)
        _, sure = await ask(made, ResultFilter(min_confidence=0.9))
        assert sure.objects == ()
        assert sure.faces is not None


async def test_emotions_of_several_faces_share_their_frames(tmp_path: Path) -> None:
    sad = FACE.__class__(
        face_id=2, confidence=0.95, xyxy=FACE.xyxy, emotion="sad", emotion_probability=0.5, emotions=()
    )
    events = [found_in([1, 2], 0, FACES, found=(FACE, sad, sad)), *closed(0)]
    async with world(tmp_path, submitted((FACES,)), events) as made:
        _, found = await ask(made)
        assert found.faces is not None
        assert (found.faces.frames, found.faces.detections, found.faces.greatest) == (2, 6, 3)
        shares = [(one.emotion, one.frames, one.detections, one.share) for one in found.emotions]
        assert shares == [("sad", 2, 4, 0.6667), ("happy", 2, 2, 0.3333)]


async def test_nothing_there_is_an_empty_summary(tmp_path: Path) -> None:
    async with world(tmp_path, submitted()) as made:
        assert (await ask(made))[1] == Findings()
        assert (await ask(made, models=(COLORS,)))[1] == Findings()


async def test_colours_without_a_share_make_no_palette_entry(tmp_path: Path) -> None:
    events = [found_in([1], 0, COLORS, found=(ColorShare(color="#000000", share=0.0),))]
    async with world(tmp_path, submitted((COLORS,)), events) as made:
        _, found = await ask(made)
        assert found.palette is not None
        assert found.palette.colors == ()


async def test_models_are_named_with_their_runs_and_what_they_did(tmp_path: Path) -> None:
    second = [requested((COLORS,), run_id=SECOND_RUN), *whole_segment(0, (COLORS,), run_id=SECOND_RUN)]
    first = whole_segment(0, (OBJECTS, COLORS))
    async with world(tmp_path, submitted((OBJECTS, COLORS)), first, second) as made:
        tables, _ = await ask(made)
        runs = {view.run_id: view for view in tables.video.runs}
        chosen = [(runs[table.run_id], table.model_keys) for table in tables.runs]
        work = await made.models.read(lambda connection: models_at_work(connection, chosen, None))
        assert [(one.model, one.run_id, one.frames, one.shown_from) for one in work] == [
            ("Object Detection", RUN, 4, 0.4),
            ("Color Palette Detection", SECOND_RUN, 4, 0.0),
        ]
        assert [one.identity.key for one in work] == [OBJECTS, COLORS]
        assert work[0].seconds == pytest.approx(0.04)
