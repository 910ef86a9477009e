from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monolith.exports.errors import FramesExpiredError, NoRoomError, VideoGoneError
from monolith.exports.files import AnnotatedFiles, Made, ReadyFile

OPTIONS = "0123456789abcdef"
MIB = 1 << 20


class Disk:
    """Files of one MiB each in a data directory; `room`: what is free, less what must stay free."""

    def __init__(self, folder: Path, most: int = 100 * MIB, *, shared: bool = False) -> None:
        self.folder = folder
        self.room = 1 << 40
        self.files = AnnotatedFiles(
            folder, self.folder_of, most_bytes=most, room_bytes=lambda: self.room, shared=shared
        )
        self.files.sweep()

    def folder_of(self, video_id: str) -> Path:
        return self.folder / "videos" / video_id / "annotated"

    def make(
        self, video_id: str = "v", version: str = "1", *, used: float = 0.0, options: str = OPTIONS
    ) -> ReadyFile:
        """A finished file. `used`: when it was last used, seconds since 1970."""
        self.folder_of(video_id).parent.mkdir(parents=True, exist_ok=True)
        part = self.files.part_path(video_id, options, version)
        part.write_bytes(bytes(MIB))
        made = Made(
            options=options, version=version, frames=1, complete=True, start_time=0.0, duration=1.0,
            codec="libx264", size_bytes=MIB, made_at=used,
        )  # fmt: skip
        self.files.prepare(video_id)
        file = self.files.place(part, video_id, made)
        self.files.announce(file)
        os.utime(file.path, (used, used))
        return file

    def there(self) -> set[str]:
        """`VIDEO/VERSION` of the finished files."""
        return {
            f"{path.parents[1].name}/{path.stem.rpartition('-')[2]}"
            for path in self.folder.glob("videos/*/annotated/*.mp4")
        }


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_a_file_counts_when_it_was_announced(disk: Disk) -> None:
    file = disk.make(version="1", used=10.0)
    newer = disk.make(version="2", used=20.0)
    assert disk.files.find("v", OPTIONS) == [newer, file]
    assert disk.files.find("v", "f" * 16) == []
    assert disk.files.find("w", OPTIONS) == []
    file.path.with_suffix(".json").unlink()
    assert disk.files.find("v", OPTIONS) == [newer]


def test_the_sweep_removes_what_a_crash_left(disk: Disk) -> None:
    kept = disk.make("kept")
    lost = disk.make("lost")
    lost.path.unlink()
    unannounced = disk.make("unannounced")
    unannounced.path.with_suffix(".json").unlink()
    torn = kept.path.with_name("torn.json.part")
    torn.write_bytes(b"{")
    disk.files.part_path("v", OPTIONS, "1").write_bytes(b"half")
    disk.files.sweep()
    left = [path.relative_to(disk.folder) for path in disk.folder.rglob("*") if path.is_file()]
    assert set(left) == {
        kept.path.relative_to(disk.folder),
        kept.path.with_suffix(".json").relative_to(disk.folder),
    }


def test_what_another_copy_may_be_making_is_left_alone(tmp_path: Path) -> None:
    one, other = (Disk(tmp_path, shared=True) for _ in range(2))
    in_the_making = one.files.part_path("w", OPTIONS, "1")
    assert in_the_making != other.files.part_path("w", OPTIONS, "1")
    in_the_making.write_bytes(b"half")
    placed = one.make(used=time.time())
    placed.path.with_suffix(".json").unlink()
    other.files.sweep()
    assert in_the_making.exists() and placed.path.exists()
    for path in (in_the_making, placed.path):
        os.utime(path, (0, 0))
    other.files.sweep()
    assert not in_the_making.exists() and not placed.path.exists()


def test_those_not_used_for_longest_go_first(tmp_path: Path) -> None:
    disk = Disk(tmp_path, most=2 * MIB)
    first, second = disk.make("a", used=1000.0), disk.make("b", used=2000.0)
    disk.make("c", used=3000.0)
    disk.files.used(first)
    assert disk.files.keep_within_bounds() == MIB
    assert disk.there() == {"a/1", "c/1"}
    assert not second.path.with_suffix(".json").exists()
    assert disk.files.total_bytes() == 2 * MIB


def test_use_changes_nothing_that_clients_see(disk: Disk) -> None:
    file = disk.make(used=1000.0)
    disk.files.used(file)
    assert file.path.stat().st_mtime == 1000.0
    assert file.path.stat().st_atime > 1000.0


def test_the_newest_is_never_removed_for_itself(tmp_path: Path) -> None:
    disk = Disk(tmp_path, most=MIB)
    disk.make("a", used=2000.0)
    newest = disk.make("b", used=1000.0)
    disk.files.keep_within_bounds(frozenset({newest.path}))
    assert disk.there() == {"b/1"}


def test_files_go_when_the_disk_is_short(disk: Disk) -> None:
    for number in range(4):
        disk.make(f"v{number}", used=1000.0 + number)
    disk.room = -MIB - 1
    assert disk.files.short_of_room()
    assert disk.files.keep_within_bounds() == 2 * MIB
    assert disk.there() == {"v2/1", "v3/1"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda disk: setattr(disk, "room", -1), "the disk is full; ask again when there is room"),
        (
            lambda disk: setattr(disk.files, "most_bytes", MIB - 1),
            "larger than the 0 MiB that annotated videos may take .VIDEO_ANALYSIS_ANNOTATED_CACHE_BYTES",
        ),
    ],
)
def test_a_file_in_the_making_needs_room(disk: Disk, change: Callable[[Disk], None], text: str) -> None:
    part = disk.files.part_path("v", OPTIONS, "1")
    part.write_bytes(bytes(MIB))
    disk.files.require_room(part)
    change(disk)
    with pytest.raises(NoRoomError, match=text):
        disk.files.require_room(part)


def test_two_versions_of_the_same_options_stay(disk: Disk) -> None:
    for version in "123":
        disk.make(version=version, used=1000.0 + int(version))
    disk.make(version="9", used=1.0, options="f" * 16)
    disk.files.drop_older(disk.make(version="4", used=2000.0), "v")
    assert disk.there() == {"v/3", "v/4", "v/9"}


def test_what_is_made_for_a_deleted_video_goes_nowhere(disk: Disk) -> None:
    part = disk.files.part_path("v", OPTIONS, "1")
    part.write_bytes(b"x")
    file = disk.make("other")
    with pytest.raises(VideoGoneError):
        disk.files.prepare("v")
    with pytest.raises(FramesExpiredError):
        disk.files.place(part, "v", file.made)
    disk.files.remove([file])
    file.path.parent.rmdir()
    with pytest.raises(VideoGoneError):
        disk.files.announce(file)


@pytest.mark.parametrize("card", [b"", b"{", b"{}", b"[1]"])
def test_a_damaged_card_is_no_file(disk: Disk, card: bytes) -> None:
    file = disk.make()
    file.path.with_suffix(".json").write_bytes(card)
    assert disk.files.find("v", OPTIONS) == []
    assert disk.files.total_bytes() == 0
