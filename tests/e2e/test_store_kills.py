"""KurrentDB is killed in the midst of analyses: results are those of a run that nobody disturbed."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.copies import assert_nothing_twice, copies, events_of, until
from tests.media import sample_clip
from tests.program import result_rows, until_ended, upload

CLIP = sample_clip("bikes.mp4")
KILLS = 2


async def test_the_store_killed_in_the_midst_of_work_changes_no_result(tmp_path: Path) -> None:
    async with copies(tmp_path, 1, SEGMENT_SECONDS="2") as running:
        [server] = running.servers
        async with server.client() as client:
            undisturbed = await upload(client, CLIP, frame_step=10)
            assert (await until_ended(client, undisturbed))["status"] == "Completed"
            expected = await result_rows(client, undisturbed)
            video_ids = [await upload(client, CLIP, frame_step=10) for _ in range(KILLS)]
            for number in range(1, KILLS + 1):

                async def further(least: int = 6 * number) -> bool:
                    return sum([len(await result_rows(client, video_id)) for video_id in video_ids]) >= least

                await until(further, timeout=120)
                await running.store.kill()
                await running.store.start()
            for video_id in video_ids:
                body = await until_ended(client, video_id)
                assert body["status"] == "Completed", body["error"]
                assert await result_rows(client, video_id) == expected
                assert_nothing_twice(await events_of(client, video_id))
        assert "broke off" in server.output
        assert "Traceback" not in server.output
