"""Our own reading of foreign bytes: whatever they are, it ends with an answer."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monolith.ingest.unreadable import announced_size, explain_unreadable, mp4_boxes

KINDS = st.sampled_from([b"ftyp", b"moov", b"mdat", b"free", b"abcd", b"\0\0\0\0"])
LENGTHS = st.integers(0, 40) | st.sampled_from([0, 1, 8, 2**31, 2**32 - 1])
BOX = st.builds(
    lambda length, kind, large, body: struct.pack(">I4s", length, kind) + struct.pack(">Q", large) + body,
    LENGTHS,
    KINDS,
    st.integers(0, 2**64 - 1) | st.integers(2**62, 2**64 - 1),
    st.binary(max_size=40),
)
MATROSKA = st.binary(max_size=60).map(lambda rest: b"\x1a\x45\xdf\xa3" + b"\x18\x53\x80\x67" + rest)
RIFF = st.binary(max_size=20).map(lambda rest: b"RIFF" + rest)
FILES = st.binary(max_size=200) | st.lists(BOX, max_size=6).map(b"".join) | MATROSKA | RIFF


@settings(max_examples=500)
@given(data=FILES)
@example(data=struct.pack(">I4sQ", 1, b"ftyp", 2**64 - 1))
def test_boxes_go_forward_and_end(data: bytes) -> None:
    boxes = list(mp4_boxes(io.BytesIO(data), len(data)))
    assert all(box.start < box.end for box in boxes)
    assert all(one.end == two.start for one, two in itertools.pairwise(boxes))
    assert all(box.start < len(data) for box in boxes)


@settings(max_examples=500)
@given(data=FILES)
@example(data=struct.pack(">I4sQ", 1, b"ftyp", 2**63 + 5))
def test_any_file_gets_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.mp4"
    path.write_bytes(data)
    assert len(explain_unreadable(path, "MP4, MKV")) > 20
    announced = announced_size(path)
    assert announced is None or announced[0] > announced[1] == len(data)


def test_a_folder_or_a_missing_file_gets_a_sentence(tmp_path: Path) -> None:
    assert "cannot be read" in explain_unreadable(tmp_path, "MP4")
    assert "cannot be read" in explain_unreadable(tmp_path / "nothing", "MP4")
