"""The commands `endpoint rtmp` and `endpoint webrtc`, as processes of their own, with a real server and publisher."""

from __future__ import annotations

import json
from pathlib import Path

from monolith.cli.exits import Exit
from tests.integration.test_cli import run
from tests.peers.rtmp import ffmpeg_to
from tests.program import Server, until_ended
from tests.videos import Recipe, make_video


async def test_endpoints_are_made_through_the_server_and_published_to(tmp_path: Path) -> None:
    clip = make_video(tmp_path, Recipe(frames=50, width=320, height=240))
    async with Server(tmp_path, PRECISION="f32") as server, server.client() as client:
        asked = ["--models", "color", "--frame-step", "10", "--name", "Stage"]
        done = await run(tmp_path, "endpoint", "rtmp", *asked)
        assert done.code == Exit.OK, done.err
        told = dict(line.split(": ", 1) for line in done.out.splitlines())
        assert list(told) == ["RTMP URL", "server", "stream key", "status"]
        assert told["RTMP URL"] == f"{told['server']}/{told['stream key']}"
        assert "told this once" in done.err and told["stream key"] not in done.err
        async with ffmpeg_to(told["RTMP URL"], clip, tmp_path / "log") as publisher:
            assert await publisher.wait() == 0, (tmp_path / "log").read_text()
        video = await until_ended(client, told["status"].rpartition("/")[2])
        assert (video["status"], video["video_name"], video["frame_step"]) == ("Completed", "Stage", 10)

        done = await run(tmp_path, "endpoint", "webrtc", "--models", "color,objects", "--json")
        made = json.loads(done.out)
        assert made["whip_endpoint"] == f"{server.url}/whip/{made['video_id']}"
        headers = {"Authorization": f"Bearer {made['token']}", "Content-Type": "application/sdp"}
        answer = await client.post(made["whip_endpoint"], content="v=0", headers=headers)
        assert answer.status_code == 400, "the token is right, the offer is not"


async def test_the_address_is_the_one_that_publishers_reach(tmp_path: Path) -> None:
    public = {"PUBLIC_URL": "https://video.example.org", "RTMP_PUBLIC_URL": "rtmp://video.example.org:11935"}
    async with Server(tmp_path, PRECISION="f32", **public):
        done = await run(tmp_path, "endpoint", "rtmp", "--models", "color", "--json")
        assert json.loads(done.out)["rtmp_endpoint"].startswith("rtmp://video.example.org:11935/live/")
        done = await run(tmp_path, "endpoint", "webrtc", "--models", "color", "--json")
        assert json.loads(done.out)["whip_endpoint"].startswith("https://video.example.org/whip/")


async def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = await run(tmp_path, "endpoint", "rtmp")
    assert done.code == Exit.ENVIRONMENT
    assert "no server runs on the data directory" in done.err and "`video-analysis serve`" in done.err
    wrong = await run(tmp_path, "endpoint", "webrtc", "--models", "faces")
    assert wrong.code == Exit.USAGE and "there is no model 'faces'" in wrong.err
