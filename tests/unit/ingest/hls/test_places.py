from __future__ import annotations

import pytest

from monolith.ingest.hls.places import SegmentStarts, name_of
from monolith.ingest.hls.playlist import ByteRange, MediaSegment


def segment(uri: str, part: ByteRange | None = None, number: int = 7) -> MediaSegment:
    return MediaSegment(number, 6.0, uri, part, None, None, 0, gap=False)


@pytest.mark.parametrize(
    "uri",
    [
        "http://b.example.org/live/a.ts",
        "../live/a.ts?token=1#x",
        "https://u:p@c.example.org/session-2/a.ts?token=2",
    ],
)
def test_a_name_is_that_of_the_file(uri: str) -> None:
    assert name_of(segment(uri)) == name_of(segment("a.ts"))


def test_names_tell_files_and_parts_of_files_from_one_another() -> None:
    parts = [None, ByteRange(0, 10), ByteRange(10, 20)]
    names = {name_of(segment(uri, part)) for uri in ("a.ts", "b.ts") for part in parts}
    assert len(names) == 6
    assert {len(name) for name in names} == {12}


def test_bytes_belong_to_the_segment_that_began_last() -> None:
    starts = SegmentStarts()
    assert starts.at(0) is None
    first, second = segment("a.ts", number=1), segment("b.ts", number=2)
    starts.note(100, first)
    starts.note(250, second)
    assert [starts.at(offset) for offset in (0, 99, 100, 249, 250, 10**9)] == [
        None, None, first, first, second, second,
    ]  # fmt: skip


def test_what_began_long_ago_is_forgotten() -> None:
    starts = SegmentStarts()
    for number in range(100):
        starts.note(number, segment("a.ts", number=number))
    assert starts.at(10) is None
    newest = starts.at(10**9)
    assert newest is not None and newest.sequence == 99
