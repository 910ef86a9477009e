"""The table of detections holds what `/results` shows: each line once, wherever it comes from, in every format."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from monolith.domain.errors import VideoNotFoundError
from monolith.readmodels.detection_filter import shown_detections
from monolith.readmodels.detections import DetectionReader
from monolith.readmodels.export import SCHEMA, Row, detections_table
from monolith.readmodels.results import START, ResultFilter, select_runs
from monolith.readmodels.table_export import EXPORT_FORMATS, EXPORT_SCHEMA, export
from tests.unit.readmodels.detection_stories import FILTERS, History, histories
from tests.unit.readmodels.segments import World, closed, expired, found_in, whole_segment, world
from tests.unit.readmodels.story import (
    COLORS,
    FACES,
    OBJECTS,
    RUN,
    SECOND_RUN,
    VIDEO,
    requested,
    submitted,
)

ALL = ResultFilter()
COLUMNS = list(EXPORT_SCHEMA)


async def rows(made: World, wanted: ResultFilter = ALL, models: Sequence[str] = ()) -> pl.DataFrame:
    """What `/results` shows, as a table."""
    video = await made.models.video(VIDEO)
    selection = select_runs(video, models=models)
    page = await made.models.results_page(selection, wanted, base_url="http://x", cursor=START, limit=10_000)
    assert page.end
    return detections_table(msgspec.json.decode(b"[" + page.text + b"]", type=list[Row]))


async def table(
    made: World, wanted: ResultFilter = ALL, models: Sequence[str] = (), reader: DetectionReader | None = None
) -> pl.DataFrame:
    asked = (reader or made.reader).ask(
        VIDEO, wanted, lambda tables: shown_detections(tables).select(COLUMNS).collect(), models=models
    )
    return await asked


async def same_as_rows(made: World, wanted: ResultFilter = ALL, models: Sequence[str] = ()) -> pl.DataFrame:
    found = await table(made, wanted, models)
    assert_frame_equal(found.drop("run_id"), await rows(made, wanted, models))
    return found


@given(history=histories(), wanted=FILTERS, ahead=st.sampled_from(["rows", "files"]), grouped=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_table_equals_the_rows(
    history: History,
    wanted: ResultFilter,
    ahead: str,
    grouped: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """However far the files are, or the rows are; whatever is asked for."""

    async def check(folder: Path) -> None:
        async with world(folder, history.early) as made:
            await made.happened(history.late)
            await made.projected(models=ahead == "rows", files=ahead == "files")
            await same_as_rows(made)
            found = await same_as_rows(made, wanted)
            assert_frame_equal(await table(made, wanted, reader=DetectionReader(made.models)), found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monolith.readmodels.analytics_store.GROUPS", (2, 4) if grouped else ())
        patch.setattr("monolith.readmodels.open_results._SPILL_ROWS", 12)
        patch.setattr("monolith.readmodels.open_results._PAGE", 3)
        asyncio.run(check(tmp_path_factory.mktemp("table")))


async def test_files_ahead_of_the_rows_do_not_run_ahead_of_the_answer(tmp_path: Path) -> None:
    """The second run's open segment is known to the rows only up to where they are: so are its closed ones."""
    async with world(tmp_path, submitted(), whole_segment(0)) as made:
        await made.happened([*whole_segment(1), found_in(range(9, 11), 2)])
        await made.projected(models=False)
        found = await same_as_rows(made)
        assert found["frame_number"].unique().to_list() == [1, 2, 3, 4]


async def test_a_group_that_is_ahead_in_part_gives_only_what_the_rows_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.readmodels.analytics_store.GROUPS", (2,))
    async with world(tmp_path, submitted(), whole_segment(0)) as made:
        await made.happened(whole_segment(1))
        await made.projected(models=False)
        assert len(made.files()) == 1
        assert (await same_as_rows(made))["frame_number"].max() == 4


async def test_each_model_comes_from_the_run_that_answers_for_it(tmp_path: Path) -> None:
    second = [requested((COLORS,), run_id=SECOND_RUN), *whole_segment(0, (COLORS,), run_id=SECOND_RUN)]
    async with world(
        tmp_path, submitted((OBJECTS, COLORS)), whole_segment(0, (OBJECTS, COLORS)), second
    ) as made:
        found = await same_as_rows(made)
        assert found.group_by("model").agg(pl.col("run_id").unique()).sort("model").rows() == [
            ("Color Palette Detection", [SECOND_RUN]),
            ("Object Detection", [RUN]),
        ]
        assert (await same_as_rows(made, models=(OBJECTS,)))["run_id"].unique().to_list() == [RUN]


async def test_expired_segments_between_others_hide_nothing(tmp_path: Path) -> None:
    events = [event for number in range(3) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events, [found_in([13], 3), expired(1)]) as made:
        found = await same_as_rows(made)
        assert found["frame_number"].unique().to_list() == [1, 2, 3, 4, 9, 10, 11, 12, 13]


async def test_a_group_that_has_lost_a_segment_in_its_midst_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.readmodels.analytics_store.GROUPS", (4,))
    events = [event for number in range(5) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events, [expired(1)]) as made:
        found = await same_as_rows(made)
        assert found["frame_number"].to_list() == [*range(1, 5), *range(9, 21)]


async def test_a_file_that_expired_before_the_files_were_told_is_asked_for_no_more(tmp_path: Path) -> None:
    """Retention removes files before its event is projected."""
    events = [event for number in range(2) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        await made.happened([expired(0)])
        await made.projected(files=False)
        (made.root / VIDEO / RUN / "000000.parquet").unlink()
        found = await same_as_rows(made)
        assert found["frame_number"].unique().to_list() == [5, 6, 7, 8]


@pytest.mark.parametrize("grouped", [False, True])
async def test_lines_of_a_lost_file_come_from_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    monkeypatch.setattr("monolith.readmodels.analytics_store.GROUPS", (2,) if grouped else ())
    events = [event for number in range(5) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        for path in sorted((made.root / VIDEO / RUN).glob("*.parquet"))[1:3]:
            path.unlink()
        found = await same_as_rows(made)
        assert found["frame_number"].unique().to_list() == list(range(1, 21))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff" * 5000, b"PAR1" + b"\xff" * 5000 + b"PAR1"])
async def test_lines_of_a_damaged_file_come_from_the_rows(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    events = [event for number in range(3) for event in whole_segment(number)]
    async with world(tmp_path, submitted(), events) as made:
        (made.root / VIDEO / RUN / "000001.parquet").write_bytes(content)
        found = await same_as_rows(made)
        assert found["frame_number"].unique().to_list() == list(range(1, 13))
        assert "rebuild --projection analytics" in caplog.text


async def test_a_video_that_is_not_there(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        with pytest.raises(VideoNotFoundError):
            await table(made)


async def test_a_video_without_results(tmp_path: Path) -> None:
    async with world(tmp_path, submitted()) as made:
        assert (await table(made)).height == 0
        assert (await table(made, models=(FACES,))).schema == pl.Schema(EXPORT_SCHEMA)


@pytest.mark.parametrize("name", EXPORT_FORMATS)
@pytest.mark.parametrize("lines", ["all", "none"])
async def test_every_format_holds_the_lines_of_the_rows(name: str, lines: str, tmp_path: Path) -> None:
    models = (OBJECTS, FACES, COLORS)
    events = [*whole_segment(0, models), *(found_in(range(5, 8), 1, model) for model in models)]
    wanted = ALL if lines == "all" else ResultFilter(from_frame=1000)
    async with world(tmp_path, submitted(models), events) as made:
        kind = EXPORT_FORMATS[name]
        made_file = await made.reader.ask(VIDEO, wanted, lambda tables: export(tables, kind, tmp_path))
        with made_file.file as file:
            data = file.read()
        assert (len(data), made_file.video_name) == (made_file.size, "Street")
        found = READERS[name](data)
        assert found.columns == COLUMNS
        assert_frame_equal(found.drop("run_id"), await rows(made, wanted))
        assert found.height == (0 if lines == "none" else 7 * (1 + 1 + 3))


def _csv(data: bytes) -> pl.DataFrame:
    schema = {
        name: pl.String() if isinstance(kind, pl.Enum) else kind for name, kind in EXPORT_SCHEMA.items()
    }
    return pl.read_csv(data, schema=schema).cast(pl.Schema(EXPORT_SCHEMA))


def _parquet(data: bytes) -> pl.DataFrame:
    assert pq.read_table(io.BytesIO(data)).column_names == COLUMNS  # others read it, too
    return pl.read_parquet(io.BytesIO(data))


def _arrow(data: bytes) -> pl.DataFrame:
    with pa.ipc.open_stream(data) as stream:  # by another reader than ours
        table = stream.read_all()
    mine = pl.read_ipc_stream(io.BytesIO(data))
    assert table.num_rows == mine.height
    assert table.column("label").to_pylist() == mine["label"].to_list()
    return mine


READERS = {"csv": _csv, "parquet": _parquet, "arrow": _arrow}


async def test_an_arrow_stream_of_many_batches_is_one_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.readmodels.table_export._LINES", 5)
    async with world(
        tmp_path, submitted((OBJECTS, FACES)), whole_segment(0, (OBJECTS, FACES), frames=20)
    ) as made:
        made_file = await made.reader.ask(
            VIDEO, ALL, lambda tables: export(tables, EXPORT_FORMATS["arrow"], tmp_path)
        )
        with made_file.file as file:
            data = file.read()
        with pa.ipc.open_stream(data) as stream:
            assert len(list(stream)) > 3
        assert_frame_equal(_arrow(data).drop("run_id"), await rows(made))


def test_the_columns_are_those_of_other_exports() -> None:
    assert [name for name in COLUMNS if name != "run_id"] == list(SCHEMA)


async def test_what_is_open_spills_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.readmodels.open_results._SPILL_ROWS", 10)
    monkeypatch.setattr("monolith.readmodels.open_results._PAGE", 4)
    async with world(tmp_path, submitted(), [found_in(range(1, 40), 0)], closed(7)[:1]) as made:
        await same_as_rows(made)
        scratch = made.analytics.scratch
        assert list(scratch.iterdir()) == []
