from __future__ import annotations

import pytest

from monolith.ingest.transport import is_multipart, transport_for


def packets(size: int, first: int, count: int) -> bytes:
    return b"".join(b"\x00" * first + b"\x47" + b"\xff" * (size - first - 1) for _ in range(count))


@pytest.mark.parametrize(("first", "size"), [(0, 188), (4, 192), (0, 204)])
def test_transport_streams_of_every_layout(first: int, size: int) -> None:
    assert transport_for(packets(size, first, 20), 10**6, None) == "http"
    damaged = bytearray(packets(size, first, 20))
    damaged[first + size * 7] = 0
    assert transport_for(bytes(damaged), 10**6, None) == "file"


def test_two_packets_prove_nothing() -> None:
    assert transport_for(packets(188, 0, 2), 376, None) == "file"


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(b"ftyp", 24), (b"moov", 3000)], "http"),
        ([(b"ftyp", 24), (b"free", 8), (b"moov", 3000)], "http"),
        ([(b"ftyp", 24), (b"mdat", 3000)], "file"),
        ([(b"moov", 3000)], "file"),
        ([(b"ftyp", 0)], "file"),
        ([(b"ftyp", 24)], "file"),
    ],
)
def test_mp4_without_a_length_needs_its_index_first(boxes: list[tuple[bytes, int]], expected: str) -> None:
    head = b"".join(size.to_bytes(4) + kind + b"\x00" * max(0, size - 8) for kind, size in boxes)
    assert transport_for(head[:4096], None, None) == expected
    assert transport_for(head[:4096], 10**6, None) == "file"


def test_unknown_containers_are_fetched_whole() -> None:
    assert transport_for(b"", None, None) == "file"
    assert transport_for(b"RIFF\x00\x00\x00\x00AVI ", None, "video/avi") == "file"


def test_multipart() -> None:
    assert is_multipart("Multipart/X-Mixed-Replace;boundary=a")
    assert not is_multipart("multipart/form-data") and not is_multipart(None)
