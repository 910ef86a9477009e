"""The numbers, times and pictures of segments are those of one plain decode of the whole file."""

from __future__ import annotations

import itertools
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monolith.ingest.errors import SourceError
from monolith.ingest.numbering import IndexedReader, NumberedPicture, SequentialReader
from monolith.ingest.picture import Converter
from monolith.ingest.reader import open_video
from monolith.ingest.requests import CancelledError
from monolith.ingest.scan import PtsTable, scan_packets
from monolith.ingest.segments import plan_indexed, plan_sequential
from tests.videos import Recipe, damage_packets, full_decode, make_video, read_barcode, remux

Row = tuple[int, float, int]


def _nothing() -> None:
    pass


def _rows(pictures: list[NumberedPicture]) -> list[Row]:
    return [(one.number, one.timestamp, _shown(one.picture)) for one in pictures]


def _shown(picture: object) -> int:
    return read_barcode(Converter(720, 1 << 24).rgb(picture))  # type: ignore[arg-type]


def _whole(path: Path) -> list[Row]:
    """What a plain decode of the whole file presents: the truth that segments are measured by."""
    return [(n, row.timestamp or 0.0, row.shown) for n, row in enumerate(full_decode(path), 1)]


def _table(path: Path) -> PtsTable:
    with open_video(path) as video:
        table = scan_packets(video).pts
    assert table is not None
    return table


def _segments(path: Path, segment_seconds: float) -> list[list[Row]]:
    """Each planned segment decoded by itself, the last one first: no segment may lean on another."""
    with open_video(path) as video:
        scan = scan_packets(video)
        assert scan.pts is not None
        plans = plan_indexed(scan.pts, scan.keyframes, video.stream.time_base or Fraction(1), segment_seconds)
    found = []
    for plan in reversed(plans):
        reader = IndexedReader(path, scan.pts)
        assert plan.last_frame is not None
        found.append(_rows(list(reader.read(plan.first_frame, plan.last_frame, _nothing))))
        assert reader.damaged == 0
    return found[::-1]


_KINDS = [
    (".mp4", "libx264"), (".mkv", "libx264"), (".mov", "libx264"), (".mp4", "libx265"), (".mkv", "libx265"),
    (".mp4", "mpeg4"), (".mkv", "mpeg2video"), (".webm", "libvpx"), (".webm", "libvpx-vp9"),
]  # fmt: skip


@st.composite
def _recipes(draw: st.DrawFn) -> Recipe:
    suffix, codec = draw(st.sampled_from(_KINDS))
    return Recipe(
        suffix=suffix,
        codec=codec,
        frames=draw(st.integers(20, 80)),
        gop=draw(st.sampled_from([1, 4, 7, 12, 30])),
        b_frames=draw(st.integers(0, 3)),
        open_gop=draw(st.booleans()),
        durations=tuple(draw(st.lists(st.integers(11, 90), min_size=1, max_size=5))),
    )


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@example(Recipe(b_frames=3, open_gop=True, gop=12, frames=60), 0.5)
@example(Recipe(".mkv", "libx265", b_frames=3, open_gop=True, gop=7, frames=60), 0.3)
@given(_recipes(), st.sampled_from([0.2, 0.5, 1.0, 9.0]))
def test_segments_together_are_the_full_decode(recipe: Recipe, segment_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make_video(Path(folder), recipe)

        segments = _segments(path, segment_seconds)

        assert [row for segment in segments for row in segment] == _whole(path)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_recipes(), st.integers(1, 20), st.integers(0, 19))
def test_any_range_is_the_same_as_in_the_full_decode(recipe: Recipe, first: int, more: int) -> None:
    """A resumed segment starts anywhere: inside a GOP, at a leading picture of an open GOP."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_video(Path(folder), recipe)
        last = min(first + more, recipe.frames)

        rows = _rows(list(IndexedReader(path, _table(path)).read(first, last, _nothing)))

        assert rows == _whole(path)[first - 1 : last]


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([(".ts", "libx264"), (".ts", "mpeg2video"), (".flv", "libx264"), (".avi", "mpeg4")]),
    st.integers(20, 60),
    st.integers(0, 2),
)
def test_sequential_segments_go_on_where_the_last_ended(
    kind: tuple[str, str], frames: int, b_frames: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make_video(Path(folder), Recipe(*kind, frames=frames, b_frames=b_frames, gop=9))
        reader = SequentialReader(path)

        rows: list[Row] = []
        for plan in plan_sequential(frames, 25.0, None, 0.4):
            rows += _rows(list(reader.read(plan.first_frame, plan.last_frame, _nothing)))
        reader.close()

        assert rows == _whole(path)
        assert reader.at_end


def test_a_sequential_segment_alone_is_reached_from_the_start(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(suffix=".ts"))
    reader = SequentialReader(path)

    assert _rows(list(reader.read(21, 25, _nothing))) == _whole(path)[20:25]
    assert _rows(list(reader.read(6, 8, _nothing))) == _whole(path)[5:8]
    assert not reader.at_end
    reader.close()


@pytest.mark.parametrize("cancelled_at", [1, 10])
def test_a_sequential_reader_whose_request_was_cancelled_counts_on(tmp_path: Path, cancelled_at: int) -> None:
    path = make_video(tmp_path, Recipe(suffix=".ts"))
    reader = SequentialReader(path)
    steps = itertools.count(1)

    def cancelled() -> None:
        if next(steps) == cancelled_at:
            raise CancelledError

    with pytest.raises(CancelledError):
        list(reader.read(21, 25, cancelled))
    assert _rows(list(reader.read(21, 25, _nothing))) == _whole(path)[20:25]
    reader.close()


def test_a_raw_stream_gets_times_from_its_frame_rate(tmp_path: Path) -> None:
    path = remux(make_video(tmp_path, Recipe(frames=10)), tmp_path / "raw.h264")
    reader = SequentialReader(path)

    rows = _rows(list(reader.read(1, None, _nothing)))
    reader.close()

    assert [(number, shown) for number, _, shown in rows] == [(n, n) for n in range(1, 11)]
    steps = {round(after[1] - before[1], 6) for before, after in itertools.pairwise(rows)}
    assert len(steps) == 1 and steps.pop() > 0


@pytest.mark.parametrize("frames_cut", [4, 14])
def test_pictures_outside_the_edit_list_have_no_number(tmp_path: Path, frames_cut: int) -> None:
    source = make_video(tmp_path, Recipe(frames=40, gop=10, b_frames=2), "whole")
    ticks = full_decode(source)[frames_cut].pts
    assert ticks is not None
    path = remux(
        source, tmp_path / "cut.mp4", ticks, options={"avoid_negative_ts": "disabled", "use_editlist": "1"}
    )

    rows = [row for segment in _segments(path, 0.4) for row in segment]

    assert rows == _whole(path)
    assert [shown for _, _, shown in rows] == list(range(frames_cut + 1, 41))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damaged_packets_make_gaps_and_shift_nothing(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path, Recipe(suffix=suffix, frames=40, gop=5))
    damage_packets(path, [4, 9, 24])  # the last of their GOPs: nothing refers to them
    reader = IndexedReader(path, _table(path))

    rows = _rows(list(reader.read(1, 40, _nothing)))

    assert [number for number, _, _ in rows] == [n for n in range(1, 41) if n not in (5, 10, 25)]
    assert all(number == shown for number, _, shown in rows)
    assert reader.damaged > 0


def test_a_damaged_keyframe_at_a_segments_start_costs_its_gop_only(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=40, gop=5))
    damage_packets(path, [20])
    reader = IndexedReader(path, _table(path))

    numbers = [one.number for one in reader.read(21, 40, _nothing)]

    assert 21 not in numbers
    assert numbers[-15:] == list(range(26, 41))


def test_another_file_under_the_same_name_is_noticed(tmp_path: Path) -> None:
    table = _table(make_video(tmp_path, Recipe(frames=200, durations=(40,)), "old"))
    new = make_video(tmp_path, Recipe(frames=200, durations=(37,)), "new")

    with pytest.raises(SourceError, match="the source has changed"):
        list(IndexedReader(new, table + 1).read(1, 200, _nothing))
