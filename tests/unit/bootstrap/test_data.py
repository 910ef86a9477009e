"""What must not lie in a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventsourcing.adapters.sqlite import SqliteEventStore
from monolith.bootstrap.data import check_folders
from monolith.bootstrap.program import running_program
from monolith.bootstrap.reading import reading_alone
from monolith.datadir import DataDirError
from monolith.settings import Settings


def test_folders_and_what_is_not_there_are_right(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    check_folders(tmp_path)


@pytest.mark.parametrize("name", ["videos", "uploads", "analytics", "analytics-scratch"])
def test_a_file_in_the_place_of_a_folder_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(
        DataDirError, match=f"^{tmp_path}/{name} is no folder, but the program keeps its files in"
    ):
        check_folders(tmp_path)


def test_a_link_that_leads_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(tmp_path / "gone")
    with pytest.raises(DataDirError, match="videos is no folder"):
        check_folders(tmp_path)


async def test_neither_the_program_nor_reading_alone_begins(tmp_path: Path) -> None:
    await (await SqliteEventStore.open(tmp_path / "events.db")).close()
    (tmp_path / "analytics").touch()
    settings = Settings(data_dir=tmp_path)
    for beginning in (running_program(settings), reading_alone(settings)):
        with pytest.raises(DataDirError, match="analytics is no folder"):
            async with beginning:
                pass


@pytest.mark.parametrize("name", ["videos", "uploads", "secrets"])
async def test_a_file_in_the_place_of_a_shared_folder_is_named(name: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / name).touch()
    with pytest.raises(DataDirError, match=f"shared/{name} is no folder, .* another folder to be shared"):
        async with running_program(Settings(data_dir=tmp_path / "own", shared_dir=shared)):
            pass


async def test_a_shared_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(data_dir=tmp_path / "own", shared_dir=tmp_path / "file")
    told = f"there can be no folders in {tmp_path}/file: Not a directory; .*VIDEO_ANALYSIS_SHARED_DIR"
    with pytest.raises(DataDirError, match=told):
        async with running_program(settings):
            pass
