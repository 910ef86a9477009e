from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from monolith.frames import jpeg
from monolith.frames.pack import PackError, PackWriter, read_jpeg
from tests.videos import barcode, read_barcode


def _jpegs(count: int) -> list[bytes]:
    return [jpeg.encode(barcode(number), 90) for number in range(1, count + 1)]


def _write(path: Path, pictures: list[bytes]) -> list[int]:
    with PackWriter(path) as pack:
        return [pack.append(data) for data in pictures]


def test_what_is_appended_can_be_read(tmp_path: Path) -> None:
    pictures = _jpegs(5)

    offsets = _write(tmp_path / "pack", pictures)

    assert [
        read_jpeg(tmp_path / "pack", at, len(data)) for at, data in zip(offsets, pictures, strict=True)
    ] == pictures


def test_an_existing_pack_is_continued(tmp_path: Path) -> None:
    first, second = _jpegs(2)

    (before,) = _write(tmp_path / "pack", [first])
    (after,) = _write(tmp_path / "pack", [second])

    assert (before, after) == (0, len(first))
    assert read_jpeg(tmp_path / "pack", before, len(first)) == first


def test_a_pack_plays(tmp_path: Path) -> None:
    _write(tmp_path / "pack.mjpeg", _jpegs(4))

    with av.open(str(tmp_path / "pack.mjpeg"), format="mjpeg") as container:
        frames = [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)
        ]

    assert [read_barcode(frame) for frame in frames] == [1, 2, 3, 4]


def test_a_failed_append_leaves_no_half_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _jpegs(2)
    pack = PackWriter(tmp_path / "pack")
    pack.append(first)
    real_write, calls = os.write, iter([100])

    def disk_full(descriptor: int, data: bytes) -> int:
        room = next(calls, None)
        if room is None:
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data[:room])

    monkeypatch.setattr(os, "write", disk_full)
    with pytest.raises(OSError, match="No space left"):
        pack.append(second)
    monkeypatch.undo()

    assert pack.append(second) == len(first)
    pack.close()
    assert read_jpeg(tmp_path / "pack", len(first), len(second)) == second


def test_a_missing_pack(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"frame pack 7\.mjpeg is gone"):
        read_jpeg(tmp_path / "7.mjpeg", 0, 10)


def test_a_pack_cut_short(tmp_path: Path) -> None:
    (data,) = _jpegs(1)
    path = tmp_path / "pack"
    path.write_bytes(data[:-10])

    with pytest.raises(PackError, match=f"pack at 0: {len(data)} bytes expected, {len(data) - 10} there"):
        read_jpeg(path, 0, len(data))


@pytest.mark.parametrize(("offset", "length"), [(1, 50), (0, 50)])
def test_a_wrong_place(tmp_path: Path, offset: int, length: int) -> None:
    _write(tmp_path / "pack", _jpegs(2))

    with pytest.raises(PackError, match="no JPEG of 50 bytes lies there"):
        read_jpeg(tmp_path / "pack", offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, 10), (0, -1), (2**70, 10)])
def test_a_place_that_cannot_be(tmp_path: Path, offset: int, length: int) -> None:
    _write(tmp_path / "pack", _jpegs(1))

    with pytest.raises(PackError, match="cannot be read at"):
        read_jpeg(tmp_path / "pack", offset, length)
