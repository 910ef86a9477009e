"""Timelines count what the rows show, by another way than ours."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from monolith.domain.detection import ColorShare
from monolith.domain.errors import InvalidRequestError
from monolith.readmodels.export import Row
from monolith.readmodels.results import START, ResultFilter, select_runs
from monolith.readmodels.timeline import MOST_BUCKETS, Bucket, Timeline, auto_bucket, timeline
from tests.unit.readmodels.detection_stories import FILTERS, History, histories
from tests.unit.readmodels.segments import World, closed, found_in, plain, whole_segment, world
from tests.unit.readmodels.story import CAR, COLORS, FACES, OBJECTS, VIDEO, submitted

ALL = ResultFilter()
ODD = 0.7
"""Seconds of a bucket whose edges no frame of the stories meets."""


async def ask(made: World, wanted: ResultFilter = ALL, bucket: float | None = None) -> Timeline:
    return await made.reader.ask(VIDEO, wanted, lambda tables: timeline(tables, bucket))


async def rows(made: World, wanted: ResultFilter) -> list[Row]:
    selection = select_runs(await made.models.video(VIDEO))
    page = await made.models.results_page(selection, wanted, base_url="", cursor=START, limit=10_000)
    return msgspec.json.decode(b"[" + page.text + b"]", type=list[Row])


def counted(found: list[Row], seconds: float) -> dict[int, dict[str, Any]]:
    """Bucket → judged frames of each model, detections and greatest of each label, emotions."""
    buckets: dict[int, dict[str, Any]] = {}
    for row in found:
        number = math.floor(row.video_timestamp / seconds)
        bucket = buckets.setdefault(
            number,
            {"frames": Counter(), "all": Counter(), "greatest": defaultdict(int), "emotions": Counter()},
        )
        bucket["frames"][row.inference_model] += 1
        labels = Counter("face" if e.emotion else e.label for e in row.inference_results if not e.color)
        for label, count in labels.items():
            bucket["all"][label] += count
            bucket["greatest"][label] = max(bucket["greatest"][label], count)
        bucket["emotions"].update(e.emotion for e in row.inference_results if e.emotion)
    return buckets


def as_counted(bucket: Bucket) -> dict[str, Any]:
    objects = {label: (count.detections, count.greatest) for label, count in bucket.objects.items()}
    faces = {"face": (bucket.faces.detections, bucket.faces.greatest)} if bucket.faces else {}
    return {"frames": bucket.frames, "labels": objects | faces, "emotions": bucket.emotions}


def expected(bucket: dict[str, Any]) -> dict[str, Any]:
    faces = bucket["emotions"].total()
    return {
        "frames": max(bucket["frames"].values()),
        "labels": {label: (count, bucket["greatest"][label]) for label, count in bucket["all"].items()},
        "emotions": {emotion: round(count / faces, 4) for emotion, count in bucket["emotions"].items()},
    }


@given(history=histories(), wanted=FILTERS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_timeline_counts_what_the_rows_show(
    history: History, wanted: ResultFilter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wanted = msgspec.structs.replace(wanted, label=None, from_frame=None, to_frame=None)

    async def check(folder: Path) -> None:
        async with world(folder, history.early) as made:
            answer = await ask(made, wanted, ODD)
            by_number = counted(await rows(made, wanted), ODD)
            found = {round(bucket.time / ODD): bucket for bucket in answer.buckets}
            assert set(by_number) <= set(found)
            assert list(found) == list(range(min(found, default=0), max(found, default=-1) + 1))
            for number, bucket in found.items():
                if number in by_number:
                    assert as_counted(bucket) == expected(by_number[number])
                else:
                    assert plain(bucket) == plain(Bucket(time=bucket.time))

    asyncio.run(check(tmp_path_factory.mktemp("timeline")))


async def test_colours_that_are_alike_count_as_one_and_shares_are_of_the_pictures(tmp_path: Path) -> None:
    alike = (
        ColorShare(color="#101010", share=0.4),
        ColorShare(color="#141414", share=0.4),
        ColorShare(color="#f0f0f0", share=0.2),
    )
    events = [found_in(range(1, 5), 0, COLORS, found=alike), *closed(0)]
    async with world(tmp_path, submitted((COLORS,)), events) as made:
        (bucket,) = (await ask(made, bucket=10.0)).buckets
        assert plain(bucket.colors) == [
            {"color": "#121212", "share": 0.8},
            {"color": "#f0f0f0", "share": 0.2},
        ]


async def test_at_most_five_colours_are_shown_the_greatest_first(tmp_path: Path) -> None:
    events = [
        found_in([n], 0, COLORS, found=(ColorShare(color=f"#{n * 16:02x}0000", share=n / 100),))
        for n in range(1, 16)
    ]
    async with world(tmp_path, submitted((COLORS,)), events) as made:
        (bucket,) = (await ask(made, bucket=10.0)).buckets
        shares = [one.share for one in bucket.colors]
        assert len(shares) == 5
        assert shares == sorted(shares, reverse=True)


async def test_open_and_closed_segments_are_one_timeline(tmp_path: Path) -> None:
    models = (OBJECTS, FACES)
    events = [*whole_segment(0, models), *(found_in(range(5, 8), 1, model) for model in models)]
    async with world(tmp_path, submitted(models), events) as made:
        buckets = (await ask(made, bucket=0.12)).buckets
        assert [(bucket.time, bucket.frames) for bucket in buckets] == [(0.0, 2), (0.12, 3), (0.24, 2)]
        assert buckets[0].objects["car"].detections == 2


async def test_a_bucket_without_frames_is_there_and_empty(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), [found_in([25, 75], 0)]) as made:
        frames = [(bucket.time, bucket.frames) for bucket in (await ask(made, bucket=1.0)).buckets]
        assert frames == [(1.0, 1), (2.0, 0), (3.0, 1)]


async def test_a_video_without_results_has_no_buckets(tmp_path: Path) -> None:
    async with world(tmp_path, submitted()) as made:
        assert (await ask(made)).buckets == ()


async def test_a_time_before_the_first_result_has_no_buckets(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(10)) as made:
        assert (await ask(made, ResultFilter(to_time=0.5))).buckets == ()


async def test_times_that_are_asked_for_are_kept_to(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0, frames=100)) as made:
        found = await ask(made, ResultFilter(from_time=1.0, to_time=2.0), 0.5)
        assert [(bucket.time, bucket.frames) for bucket in found.buckets] == [(1.0, 13), (1.5, 12), (2.0, 1)]


async def test_a_threshold_replaces_the_default(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), whole_segment(0)) as made:
        (shown,) = (await ask(made, bucket=9.0)).buckets
        (everything,) = (await ask(made, ResultFilter(min_confidence=0.0), 9.0)).buckets
        assert list(shown.objects) == ["car"]
        assert plain(everything.objects) == {
            "car": {"detections": 4, "greatest": 1},
            "person": {"detections": 4, "greatest": 1},
        }


async def test_too_many_buckets_are_refused_with_what_would_be_right(tmp_path: Path) -> None:
    async with world(tmp_path, submitted(), [found_in([1, 250_001], 0)]) as made:
        with pytest.raises(
            InvalidRequestError, match=r"10001 of them, more than 10000; take at least 1\.000 s"
        ):
            await ask(made, bucket=1.0)
        assert len((await ask(made, bucket=1.0001)).buckets) == MOST_BUCKETS
        assert len((await ask(made)).buckets) == 167


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, 0.1),
        (10.0, 0.5),
        (60.0, 1.0),
        (600.0, 5.0),
        (3600.0, 20.0),
        (86_400.0, 600.0),
        (604_800.0, 3600.0),
    ],
)
def test_auto_is_a_round_number_that_makes_about_200(seconds: float, bucket: float) -> None:
    assert auto_bucket(seconds) == bucket
    assert seconds / bucket <= 200


def test_auto_of_what_lasts_for_ever_is_a_two_hundredth() -> None:
    assert auto_bucket(1e9) == 5e6


async def test_the_greatest_number_in_a_frame_is_not_the_sum(tmp_path: Path) -> None:
    events = [found_in([1], 0, found=(CAR, CAR, CAR)), found_in([2], 0, found=(CAR,)), *closed(0)]
    async with world(tmp_path, submitted(), events) as made:
        (bucket,) = (await ask(made, bucket=1.0)).buckets
        assert plain(bucket.objects["car"]) == {"detections": 4, "greatest": 3}
