"""The check of the analytics files, over files that the projection has made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from monolith.doctor.analytics import analytics_files
from monolith.doctor.findings import Finding
from monolith.settings import Settings
from tests.unit.readmodels.segments import whole_segment, world
from tests.unit.readmodels.story import submitted


def found(data_dir: Path) -> Finding:
    (finding,) = analytics_files(Settings(data_dir=data_dir))
    return finding


async def made(data_dir: Path) -> list[Path]:
    """Analytics files of a video; where they lie."""
    async with world(data_dir, submitted(), whole_segment(0), whole_segment(1)):
        pass
    return sorted((data_dir / "analytics").rglob("*.parquet"))


def test_nothing_yet(tmp_path: Path) -> None:
    assert found(tmp_path).level == "ok"
    assert "it is made at the first start" in found(tmp_path).found


async def test_sound_files(tmp_path: Path) -> None:
    paths = await made(tmp_path)
    assert paths
    assert (found(tmp_path).level, found(tmp_path).found) == (
        "ok",
        f"{len(paths)} files of this version, none is missing",
    )


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"PAR1, and no end")])
async def test_missing_and_damaged_files(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    paths = await made(tmp_path)
    harm(paths[0])
    finding = found(tmp_path)
    assert finding.level == "warning"
    assert finding.found == f"1 of {len(paths)} files are missing or damaged, such as {paths[0]}"
    assert "rebuild --projection analytics" in finding.help


async def test_another_version_and_a_damaged_index(tmp_path: Path) -> None:
    await made(tmp_path)
    index = tmp_path / "analytics" / "index.db"
    connection = apsw.Connection(str(index))
    connection.execute("UPDATE meta SET value = '0' WHERE key = 'signature'")
    connection.close()
    assert (found(tmp_path).level, found(tmp_path).found) == ("warning", "of another version of the program")
    index.write_bytes(b"rubbish" * 1000)
    assert found(tmp_path).level == "warning"
    assert "made again at the next start" in found(tmp_path).help


def test_a_file_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "analytics").touch()
    assert (found(tmp_path).level, found(tmp_path).found) == ("problem", f"{tmp_path}/analytics is no folder")
