"""OBS Studio publishes by RTMP, as it is installed from Debian. It is large, so only `./test.sh --full` asks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monolith.frames.jpeg import decode
from tests.e2e.test_rtmp import endpoint, until
from tests.peers.obs import obs_to
from tests.program import Server


@pytest.mark.full
async def test_obs_publishes_by_rtmp(tmp_path: Path) -> None:
    async with Server(tmp_path, PRECISION="f32", LIVE_SILENCE="60") as server, server.client() as client:
        video_id, url = await endpoint(client)
        folder, _, key = url.rpartition("/")
        async with obs_to(folder, key, tmp_path):
            body = await until(client, video_id, lambda body: body["frames_analyzed"] >= 20)
        assert (body["media"]["codec"], body["media"]["width"], body["connections"]) == ("h264", 640, 1)
        number = body["greatest_frame_analyzed"]
        answer = await client.get(f"/analysis/{video_id}/frame/{number}", params={"annotated": "false"})
        picture = decode(answer.raise_for_status().content)
        assert np.abs(picture.mean(axis=(0, 1)) - (255, 0, 0)).max() < 12, "red"
        body = await until(client, video_id, lambda body: not body["connected"])
        await client.post(f"/analysis/{video_id}/cancel")
        body = await until(client, video_id, lambda body: body["status"] == "Completed")
        assert body["error"] is None
