"""The data directory, sound and not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic import SecretStr

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.versions import ANY
from monolith.datadir import DataDirLock
from monolith.doctor import data_directory
from monolith.doctor.findings import Finding
from monolith.domain.events import DOMAIN_EVENTS
from monolith.readmodels.queries import ReadModels
from monolith.settings import Settings
from tests.unit.readmodels.story import whole_video

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /mnt/my\\040share rw shared:2 - nfs4 server:/share rw
31 22 0:41 / /dev/shm rw - tmpfs tmpfs rw
32 30 0:42 / /mnt/my\\040share/local rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/data", "ext4"),
        ("/mnt/my share/data", "nfs4"),
        ("/mnt/my share/local/data", "xfs"),
        ("/mnt/my sharepoint", "ext4"),
        ("/dev/shm/x", "tmpfs"),
    ],
)
def test_the_mount_that_a_folder_lies_on(folder: str, kind: str) -> None:
    assert data_directory.kind_of(Path(folder), MOUNTS)[0] == kind


@pytest.mark.parametrize(
    ("kind", "level"), [("nfs4", "warning"), ("tmpfs", "warning"), ("ext4", "ok"), ("fuse.sshfs", "warning")]
)
def test_network_and_volatile_file_systems_are_warned_about(kind: str, level: str, tmp_path: Path) -> None:
    mounts = f"22 1 254:0 / / rw,relatime shared:1 - {kind} somewhere rw\n"
    (found,) = data_directory.file_system(Settings(data_dir=tmp_path), mounts)
    assert found.level == level and kind in found.found


def test_the_machine_itself_can_be_read(tmp_path: Path) -> None:
    (found,) = data_directory.file_system(Settings(data_dir=tmp_path / "later"))
    assert "unknown" not in found.found


async def test_nothing_a_sound_store_and_a_damaged_one(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert _only(data_directory.event_store(settings)).found.startswith("nothing yet")
    store = await SqliteEventStore.open(tmp_path / "events.db")
    codec = EventCodec(DOMAIN_EVENTS)
    events = whole_video()
    for stream, event in events:
        await store.append(stream, [codec.encode(event)], expected_version=ANY)
    beside = _only(data_directory.event_store(settings))
    assert (beside.level, beside.found) == ("ok", f"{len(events)} events, sound (checked)")
    await store.close()
    assert _only(data_directory.event_store(settings)).level == "ok"
    damage(tmp_path / "events.db")
    found = _only(data_directory.event_store(settings))
    assert found.level == "problem" and "put back a sound copy" in found.help


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 8192):
            file.seek(page * 8192)
            file.write(os.urandom(64))


async def test_read_models_of_this_version_and_of_another(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    models = await ReadModels.open(tmp_path / "readmodels.db", EventCodec(DOMAIN_EVENTS))
    assert _only(data_directory.read_models(settings)).level == "ok"
    await models.close()
    (tmp_path / "readmodels.db").write_bytes(b"no database" * 1000)
    assert _only(data_directory.read_models(settings)).level == "warning"


def test_a_foreign_database_is_no_event_store(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"")
    assert (
        "is no event store of version" in _only(data_directory.event_store(Settings(data_dir=tmp_path))).found
    )


def test_who_holds_the_directory_is_told(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    assert "made at the first start" in _only(data_directory.place(settings)).found
    with DataDirLock.acquire(tmp_path / "data", "http://127.0.0.1:1"):
        found = _only(data_directory.place(settings)).found
    assert f"process {os.getpid()} holds it and serves http://127.0.0.1:1" in found
    assert "nobody holds it" in _only(data_directory.place(settings)).found
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["video-analysis.lock"]


def test_a_place_where_nothing_can_be_made() -> None:
    assert _only(data_directory.place(Settings(data_dir=Path("/proc/self")))).level == "problem"


@pytest.mark.parametrize(("limit", "level"), [(0, "ok"), (1 << 60, "problem")])
def test_room(limit: int, level: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "later", min_free_bytes=limit)
    assert _only(data_directory.room(settings)).level == level


def test_the_folder_that_copies_share_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    settings = Settings(data_dir=tmp_path / "data", shared_dir=tmp_path / "shared", min_free_bytes=1)
    shown = [(one.check, one.level) for one in data_directory.place(settings)]
    assert shown == [("data directory", "ok"), ("shared folder", "ok")]
    assert [one.level for one in data_directory.room(settings)] == ["ok", "ok"]
    elsewhere = settings.model_copy(update={"shared_dir": Path("/proc/self")})
    [_, unusable] = data_directory.place(elsewhere)
    assert unusable.level == "problem" and "VIDEO_ANALYSIS_SHARED_DIR" in unusable.help


def test_a_store_that_is_a_server_is_not_looked_for_in_the_directory(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"of an earlier time")
    settings = Settings(data_dir=tmp_path, kurrentdb_uri=SecretStr("kurrentdb://localhost:1"))
    assert _only(data_directory.event_store(settings)).level == "ok"


def _only(findings: Iterable[Finding]) -> Finding:
    (found,) = findings
    return found
