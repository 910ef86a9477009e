from __future__ import annotations

import msgspec
import pytest

from monolith.domain.segment import SourcePosition
from monolith.ingest.hls.places import name_of
from monolith.ingest.hls.playlist import MediaPlaylist, parse_playlist
from monolith.ingest.hls.playlists import first_live


def playlist(first: int, count: int, *, seconds: float = 6.0) -> MediaPlaylist:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:6", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number in range(first, first + count):
        lines += [f"#EXTINF:{seconds}", f"part-{number}.ts"]
    parsed = parse_playlist("\n".join(lines).encode())
    assert isinstance(parsed, MediaPlaylist)
    return parsed


def in_segment(number: int) -> SourcePosition:
    (segment,) = playlist(number, 1).segments
    return SourcePosition(sequence=number, name=name_of(segment), timestamp=1.5)


def test_a_first_connection_begins_with_the_newest_segment() -> None:
    assert first_live(playlist(40, 5), None) == 44
    assert first_live(playlist(0, 0), None) == 0


@pytest.mark.parametrize("stored", [40, 42, 44])
def test_a_later_one_begins_where_the_last_picture_was(stored: int) -> None:
    assert first_live(playlist(40, 5), in_segment(stored)) == stored


def test_what_is_not_listed_any_more_is_let_go() -> None:
    assert first_live(playlist(40, 5), in_segment(39)) == 44


def test_a_segment_of_another_name_is_another_one() -> None:
    assert first_live(playlist(40, 5), msgspec.structs.replace(in_segment(42), name="another")) == 44


def test_more_than_a_minute_is_not_caught_up_with() -> None:
    assert first_live(playlist(40, 11), in_segment(40)) == 40
    assert first_live(playlist(40, 12), in_segment(40)) == 51


def test_numbers_that_began_anew_are_of_another_source() -> None:
    assert first_live(playlist(0, 3), in_segment(42)) == 2


def test_an_old_copy_of_the_playlist_gives_nothing_that_was_there_before() -> None:
    assert first_live(playlist(40, 5), in_segment(46)) == 46
    assert first_live(playlist(0, 0), in_segment(0)) == 0
