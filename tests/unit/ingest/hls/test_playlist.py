from __future__ import annotations

import pytest

from monolith.ingest.errors import SourceError
from monolith.ingest.hls.playlist import (
    ByteRange,
    Key,
    MasterPlaylist,
    MediaPlaylist,
    PlaylistError,
    parse_playlist,
)
from monolith.ingest.hls.playlists import best_variant


def media(text: str) -> MediaPlaylist:
    playlist = parse_playlist(f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n{text}".encode())
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def master(*variants: str) -> MasterPlaylist:
    lines = [
        line for n, variant in enumerate(variants) for line in (f"#EXT-X-STREAM-INF:{variant}", f"{n}.m3u8")
    ]
    playlist = parse_playlist("\n".join(["#EXTM3U", *lines]).encode())
    assert isinstance(playlist, MasterPlaylist)
    return playlist


def test_segments_and_their_numbers() -> None:
    playlist = media("#EXT-X-MEDIA-SEQUENCE:7\r\n#EXTINF:5.5,title\r\na.ts\r\n#comment\n#EXTINF:4,\nb.ts\n")
    assert [(s.sequence, s.duration, s.uri) for s in playlist.segments] == [
        (7, 5.5, "a.ts"),
        (8, 4.0, "b.ts"),
    ]
    assert (playlist.target_duration, playlist.ended, playlist.duration) == (6.0, False, 9.5)
    assert media("#EXT-X-ENDLIST").ended


def test_keys_hold_until_the_next() -> None:
    playlist = media(
        '#EXT-X-KEY:METHOD=AES-128,URI="k?a=1,2",IV=0xFF\n#EXTINF:1\na\n#EXTINF:1\nb\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1\nc'
    )
    key = Key("AES-128", "k?a=1,2", bytes(15) + b"\xff", "identity")
    assert [segment.key for segment in playlist.segments] == [key, key, None]


def test_byte_ranges_go_on() -> None:
    playlist = media(
        '#EXT-X-MAP:URI="i",BYTERANGE="10@5"\n#EXTINF:1\n#EXT-X-BYTERANGE:100@50\na\n#EXTINF:1\n#EXT-X-BYTERANGE:20\na\n'
    )
    assert [segment.byte_range for segment in playlist.segments] == [ByteRange(50, 150), ByteRange(150, 170)]
    assert all(s.init is not None and s.init.byte_range == ByteRange(5, 15) for s in playlist.segments)


def test_discontinuities_and_gaps() -> None:
    playlist = media(
        "#EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXTINF:1\na\n#EXT-X-DISCONTINUITY\n#EXTINF:1\n#EXT-X-GAP\nb\n#EXTINF:1\nc"
    )
    assert [(s.discontinuity, s.gap) for s in playlist.segments] == [(3, False), (4, True), (4, False)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("#EXTINF:x\na", "a duration is malformed"),
        ("#EXTINF:-1\na", "a duration is not from 0"),
        ("#EXTINF:nan\na", "a duration is not from 0"),
        ("#EXT-X-MEDIA-SEQUENCE:99999999999999999999", "a number is malformed"),
        ("#EXTINF:1\na\n#EXT-X-MEDIA-SEQUENCE:3", "stands behind segments"),
        ("#EXT-X-KEY:METHOD=AES-128", "a key has no method or no URI"),
        ('#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0xZZ', "the IV of a key is malformed"),
        ("#EXT-X-KEY:nonsense", "a list of attributes is malformed"),
        ("#EXT-X-MAP:BYTERANGE=1", "an initialization section has no URI"),
        ("#EXTINF:1\n#EXT-X-BYTERANGE:5\na", "a byte range has no start"),
        ("#EXTINF:1\na\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb", "both variants and segments"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(PlaylistError, match=told):
        media(text)


def test_text_in_another_encoding() -> None:
    with pytest.raises(PlaylistError, match="UTF-8"):
        parse_playlist(b"#EXTM3U\n\xff\xfe")
    assert parse_playlist(b"\xef\xbb\xbf#EXTM3U\n#EXT-X-TARGETDURATION:1\n")


@pytest.mark.parametrize(
    ("variants", "best"),
    [
        (
            [
                "BANDWIDTH=1,RESOLUTION=640x360",
                "BANDWIDTH=2,RESOLUTION=1920x1080",
                "BANDWIDTH=9,RESOLUTION=3840x2160",
            ],
            1,
        ),
        (["BANDWIDTH=1,RESOLUTION=640x360", "BANDWIDTH=5,RESOLUTION=640x360"], 1),
        (["BANDWIDTH=1,RESOLUTION=7680x4320", "BANDWIDTH=9,RESOLUTION=3840x2160"], 1),
        (["BANDWIDTH=1", "BANDWIDTH=7", "BANDWIDTH=3"], 1),
        (['BANDWIDTH=9,CODECS="mp4a.40.2,ac-3"', 'BANDWIDTH=1,CODECS="avc1.4d401f,mp4a.40.2"'], 1),
    ],
)
def test_the_best_variant(variants: list[str], best: int) -> None:
    assert best_variant(master(*variants)).uri == f"{best}.m3u8"


def test_variants_of_sound_alone() -> None:
    with pytest.raises(SourceError, match="sound alone"):
        best_variant(master('BANDWIDTH=1,CODECS="mp4a.40.2"'))
