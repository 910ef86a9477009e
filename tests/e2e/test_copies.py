"""Several copies of the program on one event store: one leads, another takes over, publishers may go to any."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.e2e.copies import claimants, copies, events_of, known, until
from tests.media import sample_clip
from tests.peers.rtmp import ffmpeg_to, refused_by
from tests.program import result_rows, until_ended, upload
from tests.videos import Recipe, make_video

SDP = {"Content-Type": "application/sdp"}
CLIP = sample_clip("bikes.mp4")


async def test_what_one_copy_takes_another_may_do_and_all_answer_alike(tmp_path: Path) -> None:
    async with copies(tmp_path, 2) as running:
        leader = await running.leader()
        [other] = [server for server in running.servers if server is not leader]
        async with leader.client() as at_leader, other.client() as at_other:
            video_id = await upload(at_other, CLIP, frame_step=10)
            await known(at_leader, video_id)
            assert (await until_ended(at_other, video_id))["status"] == "Completed"
            assert (await until_ended(at_leader, video_id))["status"] == "Completed"
            rows = await result_rows(at_leader, video_id)
            assert rows and rows == await result_rows(at_other, video_id)
            frame = f"/frames/{video_id}/{rows[0][0]}"
            assert (await at_other.get(frame)).content == (await at_leader.get(frame)).content


async def test_another_copy_leads_when_the_leader_is_killed(tmp_path: Path) -> None:
    async with copies(tmp_path, 2) as running:
        leader = await running.leader()
        [other] = [server for server in running.servers if server is not leader]
        async with other.client() as client, leader.client() as at_leader:
            undisturbed = await upload(client, CLIP, frame_step=5)
            assert (await until_ended(client, undisturbed))["status"] == "Completed"
            video_id = await upload(client, CLIP, frame_step=5)

            async def begun() -> bool:
                return bool(await result_rows(at_leader, video_id))

            await known(at_leader, video_id)
            await until(begun)
            await leader.kill()
            assert (await until_ended(client, video_id))["status"] == "Completed"
            assert await result_rows(client, video_id) == await result_rows(client, undisturbed)
        assert "is now the leader" in other.output
        assert "Traceback" not in other.output
        await leader.start()


async def test_the_store_may_go_and_come_back(tmp_path: Path) -> None:
    async with copies(tmp_path, 1) as running:
        [server] = running.servers
        async with server.client() as client:
            await running.store.kill()

            async def is_not_ready() -> bool:
                answer = await client.get("/health/ready")
                return answer.status_code == 503 and "KurrentDB" in answer.text

            await until(is_not_ready)
            await running.store.start()
            await server.until_ready()
            video_id = await upload(client, CLIP, frame_step=25)
            assert (await until_ended(client, video_id))["status"] == "Completed"
        assert "Traceback" not in server.output


async def test_a_publisher_may_come_to_any_copy_and_come_again_to_another(tmp_path: Path) -> None:
    clip = make_video(tmp_path, Recipe(frames=100, gop=25, b_frames=2, width=320, height=240))
    async with copies(tmp_path, 2, SEGMENT_SECONDS="2", LIVE_SILENCE="60") as running:
        one, other = running.servers
        async with one.client() as at_one, other.client() as at_other:
            video_id, url = await endpoint(at_one)
            _, elsewhere = await endpoint(at_other)
            at_the_other = f"{elsewhere.rpartition('/')[0]}/{url.rpartition('/')[2]}"
            async with ffmpeg_to(url, clip, tmp_path / "log", loop=True) as publisher:
                await until(lambda: is_analysed(at_other, video_id, connections=1))
                assert "another copy" in await asyncio.to_thread(refused_by, at_the_other, clip)
                offer = await at_other.post(f"/whep/{video_id}", content="v=0", headers=SDP)
                assert (offer.status_code, "is not live" in offer.text) == (404, True)
                publisher.kill()
                await publisher.wait()
            async with ffmpeg_to(at_the_other, clip, tmp_path / "log", loop=True) as publisher:
                await until(lambda: is_analysed(at_one, video_id, connections=2))
                publisher.terminate()
                await publisher.wait()
            for client in (at_one, at_other):
                body = await until_ended(client, video_id)
                assert (body["status"], body["connections"]) == ("Completed", 2), body["error"]
            first, second = (await at_one.get(f"/analysis/{video_id}/connections")).json()
            assert second["segment"] > first["segment"]
            assert second["first_frame"] > first["last_frame"]
            assert len(claimants(await events_of(at_one, video_id))) == 2
        for server in running.servers:
            assert "Traceback" not in server.output


async def is_analysed(client: httpx.AsyncClient, video_id: str, *, connections: int) -> bool:
    """Whether pictures of so many connections have been analysed."""
    body = (await client.get(f"/analysis/{video_id}")).json()
    if body.get("connections") != connections or not body["connected"]:
        return False
    newest = (await client.get(f"/analysis/{video_id}/connections")).json()[-1]
    rows = (await client.get(f"/analysis/{video_id}/results")).json()
    return any(row["frame_number"] >= newest["first_frame"] for row in rows)


async def endpoint(client: httpx.AsyncClient) -> tuple[str, str]:
    """Video id and where to publish."""
    wanted = {"modelsToRun": ["color_detection"], "frameStep": 5}
    made = (await client.post("/analysis/rtmp-endpoint", json=wanted)).raise_for_status().json()
    return str(made["video_id"]), str(made["rtmp_endpoint"])
