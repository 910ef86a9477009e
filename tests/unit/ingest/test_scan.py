from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from monolith.ingest.reader import open_video
from monolith.ingest.scan import digest_of, load_table, save_table, scan_packets
from tests.videos import Recipe, make_video


def test_a_table_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    table = np.array([-512, 0, 40, 2**40], np.int64)

    save_table(tmp_path / "scan.npy", table)
    loaded = load_table(tmp_path / "scan.npy")

    assert loaded is not None and loaded.tolist() == table.tolist()
    assert digest_of(loaded) == digest_of(table)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npy"]


def test_the_digest_is_of_the_values_in_order() -> None:
    expected = hashlib.sha256(struct.pack("<2q", -1, 2)).hexdigest()
    assert digest_of(np.array([-1, 2], np.int64)) == expected


def test_a_failed_store_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_table(tmp_path / "scan.npy", np.array([1], np.int64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", [[3, 2, 1], [1, 1], [[1, 2]], [0.5, 1.5]])
def test_another_array_is_no_table(tmp_path: Path, table: list[object]) -> None:
    np.save(tmp_path / "scan.npy", np.array(table))
    assert load_table(tmp_path / "scan.npy") is None


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"not an array", b"\x80\x04K\x01."])
def test_a_damaged_file_is_no_table(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "scan.npy").write_bytes(data)
    assert load_table(tmp_path / "scan.npy") is None


def test_no_file_is_no_table(tmp_path: Path) -> None:
    assert load_table(tmp_path / "none.npy") is None


def test_a_scan_finds_frames_and_keyframes(tmp_path: Path) -> None:
    with open_video(make_video(tmp_path, Recipe(".mkv", frames=30, gop=10, b_frames=2))) as video:
        scan = scan_packets(video)

    assert scan.pts is not None
    assert scan.pts.tolist() == list(range(0, 1200, 40))
    assert scan.keyframes.tolist() == [0, 400, 800]
    assert (scan.packets, scan.span, scan.why_sequential) == (30, 1200, None)


def test_a_scan_says_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monolith.ingest.scan._PACKETS_A_PROGRESS", 10)
    calls: list[None] = []

    with open_video(make_video(tmp_path, Recipe(frames=35))) as video:
        scan_packets(video, lambda: calls.append(None))

    assert len(calls) == 3
