"""Where files lie, and what removing and reading them does."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from monolith.application.retention_report import RetentionReport
from monolith.secret_urls import SecretUrls
from monolith.storage import FileStorage, FrameDamagedError, FrameGoneError, RetentionFile

JPEG = b"\xff\xd8picture\xff\xd9"


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    made = FileStorage(tmp_path)
    made.prepare()
    return made


def test_asking_for_paths_and_reading_make_no_folder(storage: FileStorage, tmp_path: Path) -> None:
    storage.spool_path("v")
    storage.scan_path("v")
    with pytest.raises(FrameGoneError):
        storage.read_frame("v", "p.mjpeg", 0, 10)
    assert list((tmp_path / "videos").iterdir()) == []


async def test_a_prepared_video_can_be_written_and_removed(storage: FileStorage, tmp_path: Path) -> None:
    await storage.prepare_video("v")
    await storage.prepare_video("v")
    storage.pack_path("v", "p.mjpeg").write_bytes(JPEG)
    storage.spool_path("v").write_bytes(b"x")
    assert storage.read_frame("v", "p.mjpeg", 0, len(JPEG)) == JPEG
    assert await storage.remove_video("v") == len(JPEG) + 1
    assert list((tmp_path / "videos").iterdir()) == []


async def test_a_damaged_pack_and_an_unreadable_one_are_told_apart(storage: FileStorage) -> None:
    await storage.prepare_video("v")
    storage.pack_path("v", "p.mjpeg").write_bytes(JPEG)
    for offset, length in ((1, 5), (5, 50)):
        with pytest.raises(FrameDamagedError):
            storage.read_frame("v", "p.mjpeg", offset, length)
    storage.pack_path("v", "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        storage.read_frame("v", "folder", 0, 10)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc/passwd", "a\0"])
def test_names_stay_in_their_folder(storage: FileStorage, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        storage.pack_path("v", name)
    with pytest.raises(ValueError, match="plain file name"):
        storage.spool_path(name)


def test_room_is_what_may_still_be_written(tmp_path: Path) -> None:
    free = FileStorage(tmp_path).free_bytes()
    assert FileStorage(tmp_path, 1 << 62).room_bytes() < 0
    assert 0 < FileStorage(tmp_path).room_bytes() <= free + (1 << 30)


async def test_a_secret_is_private_whole_and_stays_the_first(tmp_path: Path) -> None:
    secrets = SecretUrls(tmp_path)
    assert await secrets.url_of("v") is None
    await secrets.keep_url("v", "http://me:pass@h/a")
    await secrets.keep_url("v", "http://other")
    assert await secrets.url_of("v") == "http://me:pass@h/a"
    (file,) = (tmp_path / "secrets").iterdir()
    assert (file.name, file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == ("v", 0o600, 0o700)
    await secrets.forget("v")
    await secrets.forget("v")
    assert await secrets.url_of("v") is None


async def test_an_interrupted_write_leaves_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = SecretUrls(tmp_path)

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr("monolith.secret_urls.os.fsync", broken)
        await secrets.keep_url("v", "http://me:pass@h/a")
    assert await secrets.url_of("v") is None
    assert list((tmp_path / "secrets").iterdir()) == []


async def test_secrets_of_other_videos_go(tmp_path: Path) -> None:
    secrets = SecretUrls(tmp_path)
    await secrets.forget_all_but({"a"})
    for name in ("a", "b", "c.part"):
        await secrets.keep_url(name, f"http://{name}")
    await secrets.forget_all_but({"a"})
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["a"]


def _packed(storage: FileStorage, folder: Path, *names: str) -> None:
    for name in names:
        path = folder / "videos" / "v" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")


async def test_files_of_segments_go_and_those_of_others_stay(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    storage.prepare()
    _packed(
        storage, tmp_path, "packs/000000-r-001.mjpeg", "packs/000000-r-002.mjpeg", "packs/000001-r-001.mjpeg",
        "packs/1000000-r-001.mjpeg", "packs/notes.txt", "annotated/abc.mp4", "pts.npy",
    )  # fmt: skip
    analytics = tmp_path / "analytics" / "v" / "r"
    analytics.mkdir(parents=True)
    for name in ("000000.parquet", "000000.frames.parquet", "000001.parquet"):
        (analytics / name).write_bytes(b"12345")
    assert await storage.measure_segments("v", {0, 5}) == 25
    assert await storage.analytics_bytes("v") == 15
    assert await storage.remove_segments("v", {0, 5}) == 15
    assert await storage.analytics_bytes("v") == 5
    assert await storage.remove_segments("v", {0, 5}) == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        "videos/v/packs/000001-r-001.mjpeg", "videos/v/packs/1000000-r-001.mjpeg", "videos/v/packs/notes.txt",
        "videos/v/pts.npy", "analytics/v/r/000001.parquet",
    }  # fmt: skip
    assert await storage.remove_segments("unknown", {0}) == 0


async def test_a_video_is_measured_with_all_that_is_removed_with_it(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    storage.prepare()
    _packed(storage, tmp_path, "packs/000000-r-001.mjpeg", "source")
    (tmp_path / "analytics" / "v").mkdir(parents=True)
    (tmp_path / "analytics" / "v" / "x.parquet").write_bytes(b"123")
    upload = storage.uploads / "clip.mp4"
    upload.write_bytes(b"1234567")
    (tmp_path / "mine.mp4").write_bytes(b"not the program's")
    assert await storage.measure_video("v", str(upload)) == 20
    assert await storage.measure_video("v", str(tmp_path / "mine.mp4")) == 13
    assert await storage.remove_source("v", str(upload)) + await storage.remove_video("v") == 17
    assert not (tmp_path / "analytics" / "v").exists()
    assert await storage.measure_video("v", str(upload)) == 0


async def test_a_report_is_kept(tmp_path: Path) -> None:
    reports = RetentionFile(tmp_path)
    assert await reports.load() is None
    report = RetentionReport(dry_run=True, days=1.5, older_than=5.0, started_at=6.0, keep=("a",))
    report.count(report.new_video("v", "Street"), [])
    await reports.save(report)
    assert await RetentionFile(tmp_path).load() == report
    (tmp_path / "retention.json").write_bytes(b"{")
    assert await reports.load() is None


async def test_a_video_goes_though_its_files_come_and_go_meanwhile(
    storage: FileStorage, tmp_path: Path
) -> None:
    """The projection of the analytics files writes and removes in the same folder."""
    folder = tmp_path / "analytics" / "v" / "run"

    def busy() -> None:
        for number in reversed(range(300)):
            with contextlib.suppress(FileNotFoundError):  # it went first, or its folder has gone
                (folder / str(number)).unlink()
                if number % 60 == 0:
                    (folder / f"new-{number}").touch()

    for _ in range(20):
        folder.mkdir(parents=True)
        for number in range(300):
            (folder / str(number)).touch()
        other = asyncio.create_task(asyncio.to_thread(busy))
        await storage.remove_video("v")
        await other
        assert not folder.parent.exists()
