from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monolith.ingest.transport_stream import TransportParts, VideoEntry, crc32, video_of
from tests.transport_streams import packets, pat, pictures, pmt
from tests.videos import Recipe, make_video

H264, HEVC, MPEG2, AAC = 0x1B, 0x24, 0x02, 0x0F
PMT = 0x1000


def parts(data: bytes, piece: int = 32768, chosen: int | None = None) -> list[bytes]:
    file = io.BytesIO(data)
    split = TransportParts(lambda size: file.read(min(size, piece)))
    found = []
    while True:
        split.chosen = chosen
        part = b""
        while read := split.read(5000):
            part += read
        found.append(part)
        if not split.next_part():
            return found


PAT = packets(0, pat({1: PMT}))
FIRST = PAT + packets(PMT, pmt((0x100, H264), (0x101, AAC))) + pictures(0x100)


class TestChanges:
    @pytest.mark.parametrize("piece", [1, 187, 188, 1000, 32768])
    def test_another_codec_begins_a_part(self, piece: int) -> None:
        announced = packets(PMT, pmt((0x100, HEVC)))
        found = parts(FIRST + announced + pictures(0x100), piece)
        assert found == [FIRST, PAT + announced + pictures(0x100)]

    def test_another_pid_begins_a_part(self) -> None:
        other = packets(0, pat({2: 0x200})) + packets(0x200, pmt((0x201, H264), program=2)) + pictures(0x201)
        found = parts(FIRST + other)
        assert found == [FIRST + packets(0, pat({2: 0x200})), other]

    def test_there_and_back(self) -> None:
        announced = [packets(PMT, pmt((0x100, kind))) for kind in (HEVC, H264, MPEG2)]
        data = FIRST + b"".join(each + pictures(0x100) for each in announced)
        assert parts(data) == [FIRST, *(PAT + each + pictures(0x100) for each in announced)]

    @pytest.mark.parametrize("size", [188, 192, 204])
    def test_packets_with_something_between_them(self, size: int) -> None:
        tables = [packets(PMT, pmt((0x100, kind)), size) for kind in (H264, HEVC)]
        program, shown = packets(0, pat({1: PMT}), size), pictures(0x100, 10, size)
        first = b"\x00" * (size - 188) + program + tables[0] + shown
        assert parts(first + tables[1] + shown) == [first, program + tables[1] + shown]

    def test_a_table_over_several_packets(self) -> None:
        many = [(0x300 + n, AAC) for n in range(100)]
        announced = packets(PMT, pmt((0x100, HEVC), *many))
        assert len(announced) == 3 * 188
        found = parts(FIRST + announced + pictures(0x100))
        assert found[1] == PAT + announced + pictures(0x100)

    def test_codecs_that_only_a_descriptor_tells(self) -> None:
        kinds = [(0x100, 0x06, name) for name in (b"AV01", b"HEVC")]
        data = b"".join(packets(PMT, pmt(kind)) + pictures(0x100) for kind in kinds)
        assert len(parts(PAT + data)) == 2


class TestNoChange:
    @pytest.mark.parametrize(
        "table",
        [
            pmt((0x100, H264), (0x101, 0x03)),
            pmt((0x100, H264), (0x102, HEVC)),
            pmt((0x101, AAC)),
            pmt((0x100, H264)),
            pmt((0x100, HEVC), in_force=False),
            pmt((0x100, HEVC))[:-1] + b"\x00",
        ],
        ids=["other sound", "more video", "no video for now", "less sound", "not yet in force", "damaged"],
    )
    def test_it_stays_one_part(self, table: bytes) -> None:
        data = FIRST + packets(PMT, table) + pictures(0x100) + FIRST
        assert parts(data, chosen=0x100) == [data]

    def test_two_programs_of_which_one_changes(self) -> None:
        both = packets(0, pat({1: PMT, 2: PMT}))  # even on one PID
        data = both + packets(PMT, pmt((0x100, H264))) + packets(PMT, pmt((0x200, H264), program=2))
        data += pictures(0x100) + packets(PMT, pmt((0x200, HEVC), program=2)) + pictures(0x100)
        assert parts(data, 188, chosen=0x100) == [data]
        assert len(parts(data, 188, chosen=0x200)) == 2

    @pytest.mark.parametrize(
        "data", [b"", b"FLV\x01" + bytes(5000), random.Random(1).randbytes(5000), FIRST[:400]]
    )
    def test_what_is_no_transport_stream_or_too_little_of_one(self, data: bytes) -> None:
        assert parts(data) == [data]


def test_a_change_after_damage_is_found() -> None:
    announced = packets(PMT, pmt((0x100, HEVC)))
    damage = b"\x00" * 333
    found = parts(FIRST + damage + pictures(0x100) + announced + pictures(0x100))
    assert found == [FIRST + damage + pictures(0x100), PAT + announced + pictures(0x100)]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3000))
def test_nothing_is_lost_however_it_is_damaged(chance: random.Random, piece: int) -> None:
    data = bytearray(FIRST + packets(PMT, pmt((0x100, HEVC))) + pictures(0x100) + FIRST)
    for _ in range(chance.randrange(20)):
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(300))
    found = parts(bytes(data), piece)
    assert found[0] == data[: len(found[0])]
    rest = data[len(found[0]) :]
    assert len(found) > 1 or not rest
    assert len(b"".join(found)) >= len(data)


@given(st.binary(max_size=200))
def test_any_table_can_be_read(data: bytes) -> None:
    assert all(isinstance(entry, VideoEntry) for entry in video_of(pmt((0x100, H264))[:10] + data))


def test_the_check_sum_is_the_one_of_the_standard(tmp_path: Path) -> None:
    made = make_video(tmp_path, Recipe(".ts", frames=5)).read_bytes()
    tables = [made[at + 5 : at + 188] for at in range(0, len(made), 188)
              if made[at + 1] & 0x5F == 0x50 and made[at + 2] == 0]  # fmt: skip
    assert tables
    for table in tables:
        length = 3 + (int.from_bytes(table[1:3]) & 0xFFF)
        assert crc32(table[:length]) == 0
        assert video_of(table[:length]) == {VideoEntry(0x100, H264)}
