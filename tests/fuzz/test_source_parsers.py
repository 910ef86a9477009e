"""What servers send to followed sources: whatever it is, parsers end with what they document and nothing else."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.ingest.hls.playlist import PlaylistError, parse_playlist
from monolith.ingest.rtsp.protocol import Message, RtspError, RtspParser
from monolith.ingest.rtsp.transport_header import MulticastError, pinned
from monolith.ingest.transport import transport_for
from monolith.ingest.web_url import UrlError, WebUrl

TAGS = st.sampled_from(
    ["#EXTINF:", "#EXT-X-TARGETDURATION:", "#EXT-X-MEDIA-SEQUENCE:", "#EXT-X-KEY:METHOD=", "#EXT-X-MAP:URI=",
     "#EXT-X-BYTERANGE:", "#EXT-X-STREAM-INF:BANDWIDTH=", "#EXT-X-DISCONTINUITY", "#EXT-X-ENDLIST", "#EXT-X-GAP",
     "#EXT-X-DISCONTINUITY-SEQUENCE:", "", "#"]
)  # fmt: skip
LINES = st.builds(lambda tag, rest: tag + rest, TAGS, st.text(max_size=30))
PIECES = st.lists(
    st.binary(max_size=40)
    | st.sampled_from([b"RTSP/1.0 ", b"200 OK", b"\r\n", b"\r\n\r\n", b"$\x00\x00\x08", b"Content-Length: 5",
                       b"DESCRIBE rtsp://a RTSP/1.0", b"Transport: RTP/AVP;unicast", b": "]),
    max_size=30,
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(LINES, max_size=30).map(lambda lines: "\n".join(["#EXTM3U", *lines]).encode()) | st.binary())
def test_playlists(data: bytes) -> None:
    with contextlib.suppress(PlaylistError):
        parse_playlist(data)


@settings(max_examples=300)
@given(PIECES)
def test_rtsp_is_the_same_however_it_is_cut(pieces: list[bytes]) -> None:
    assert parsed([b"".join(pieces)]) == parsed([bytes([byte]) for piece in pieces for byte in piece])


def parsed(pieces: list[bytes]) -> tuple[list[object], bool]:
    """What came out, and whether it ended with an error."""
    parser, found = RtspParser(), []
    for piece in pieces:
        try:
            found += parser.feed(piece)
        except RtspError:
            return [], True
    assert all(isinstance(item.status, int | None) for item in found if isinstance(item, Message))
    return list(found), False


@given(st.text(max_size=100))
def test_transport_headers_name_no_other_address(text: str) -> None:
    with contextlib.suppress(MulticastError):
        for part in pinned(text, ip_address("10.1.2.3")).split(","):
            sources = [
                word for word in part.split(";") if word.lower().startswith(("source=", "destination="))
            ]
            assert sources == ["source=10.1.2.3"]


@given(st.binary(max_size=800), st.none() | st.integers(0, 10**12), st.none() | st.text(max_size=30))
def test_first_bytes(head: bytes, length: int | None, content_type: str | None) -> None:
    assert transport_for(head, length, content_type) in ("file", "http", "hls")


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: f"http://{text}"), st.text(max_size=40))
def test_urls(text: str, reference: str) -> None:
    with contextlib.suppress(UrlError):
        url = WebUrl.parse(text)
        assert str(url).isascii() and url.host and " " not in str(url)
        url.joined(reference)
