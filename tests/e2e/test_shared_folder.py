"""A shared folder on another disk than the data directory, as where several copies run: nothing is renamed across."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotated import until
from tests.media import sample_clip
from tests.program import Server, until_ended, upload

CLIP = sample_clip("bikes.mp4")
ANOTHER_DISK = Path("/dev/shm")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    if not ANOTHER_DISK.is_dir() or ANOTHER_DISK.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=ANOTHER_DISK) as folder:
        yield Path(folder)


async def test_all_that_is_made_of_frames_finds_its_place(tmp_path: Path, shared: Path) -> None:
    async with Server(tmp_path, SHARED_DIR=str(shared), WORKERS="1") as server, server.client() as client:
        video_id = await upload(client, CLIP, frame_step=50)
        assert (await until_ended(client, video_id))["status"] == "Completed"
        assert (await client.get(f"/analysis/{video_id}/frame/50")).status_code == 200
        await client.get(f"/analysis/{video_id}/annotated.mp4")
        await until(client, f"/analysis/{video_id}/annotated", "ready")
        assert (await client.get(f"/analysis/{video_id}/annotated.mp4")).content[4:8] == b"ftyp"
        assert (await client.delete(f"/analysis/{video_id}")).is_success
        assert "Traceback" not in server.output
