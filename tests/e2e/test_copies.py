"""Several copies of the program on one event store: one leads, another takes over, publishers may go to any."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.copies import copies, known, until
from tests.media import sample_clip
from tests.program import result_rows, until_ended, upload

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
        assert "is now process-manager" in other.output
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
