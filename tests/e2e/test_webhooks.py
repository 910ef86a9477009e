"""Webhooks of the real program: events reach a receiver, whatever is killed, and each under one id."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.media import sample_clip
from tests.peers.receiver import Delivery, Receiver, receiver
from tests.program import Server, until_ended, upload

CLIP = sample_clip("bikes.mp4")
KILLS = 3
MODELS = ("color_detection",)


async def add(client: httpx.AsyncClient, there: Receiver, *events: str) -> dict[str, Any]:
    answer = await client.post("/webhooks", json={"url": there.url, "events": list(events)})
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    return added


async def events_of(client: httpx.AsyncClient, video_id: str) -> list[str]:
    """All that has happened to the video: event types, in their order."""
    answer = await client.get(f"/analysis/{video_id}/events", params={"limit": 1000})
    return [event["event_type"] for event in answer.raise_for_status().json()]


def of_video(there: Receiver, video_id: str) -> list[Delivery]:
    return [one for one in there.taken if one.body["data"].get("video_id") == video_id]


def without_repeats(deliveries: list[Delivery]) -> list[str]:
    return [one.event for one in {one.message_id: one for one in reversed(deliveries)}.values()][::-1]


async def until_told(there: Receiver, video_id: str, count: int) -> None:
    await there.until(lambda: len({one.message_id for one in of_video(there, video_id)}) >= count, timeout=60)


async def test_a_receiver_is_told_of_an_analysis_and_its_end(tmp_path: Path) -> None:
    async with receiver() as there, Server(tmp_path, WORKERS="1") as server, server.client() as client:
        added = await add(client, there, "VideoSubmitted", "RunCompleted")
        assert (await client.post(f"/webhooks/{added['webhook_id']}/test")).json()["delivered"]
        video_id = await upload(client, CLIP, frame_step=25, models=MODELS)
        await there.until(lambda: len(there.taken) == 3, timeout=60)
        assert there.events == ["WebhookTest", "VideoSubmitted", "RunCompleted"]
        assert all(one.is_signed_by(added["secret"]) for one in there.taken)
        end = there.taken[-1].body
        assert (end["type"], end["subject"], end["data"]["video_id"]) == (
            "video.RunCompleted", f"video-{video_id}", video_id
        )  # fmt: skip
        metrics = (await client.get("/metrics")).text
        assert 'video_analysis_webhook_attempts_total{outcome="delivered"} 2.0' in metrics
        assert 'video_analysis_webhooks{state="active"} 1.0' in metrics
        secret = str(added["secret"]).removeprefix("whsec_")
        assert secret not in server.output
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and secret in _text(path)]
    assert [path.parent.name for path in kept] == ["webhooks"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)


def _text(path: Path) -> str:
    return path.read_bytes().decode("latin-1")


async def test_kills_in_the_midst_of_deliveries_lose_nothing(tmp_path: Path) -> None:
    """At least once, in order for each video, the same id each time."""
    chance = random.Random(4)

    async def slow(delivery: Delivery) -> int:
        await asyncio.sleep(chance.uniform(0, 0.1))
        return 503 if chance.random() < 0.05 else 200

    async with receiver(slow) as there, Server(tmp_path, SEGMENT_SECONDS="2", WORKERS="1") as server:
        async with server.client() as client:
            await add(client, there, "*")
            video_ids = [await upload(client, CLIP, frame_step=10, models=MODELS) for _ in range(2)]
        for number in range(1, KILLS + 1):
            await there.until(lambda least=8 * number: len(there.taken) >= least, timeout=60)  # type: ignore[misc]
            await server.kill()
            await server.start()
        async with server.client() as client:
            for video_id in video_ids:
                assert (await until_ended(client, video_id))["status"] == "Completed"
            happened = {video_id: await events_of(client, video_id) for video_id in video_ids}
            assert "RunCompleted" in happened[video_ids[0]]
            for video_id, expected in happened.items():
                await until_told(there, video_id, len(expected))
                assert without_repeats(of_video(there, video_id)) == expected
            before = len(there.deliveries)
            assert (await client.post("/rebuild")).status_code == 202
            async with asyncio.timeout(30):
                while (await client.get("/rebuild")).json()["state"] == "running":
                    await asyncio.sleep(0.05)
            await add(client, there, "*")
            assert (await client.get("/webhooks")).json()[1]["parked"] == 0
            assert len(there.deliveries) == before, "a rebuild tells nobody anything"


async def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """The command line on the data directory of `folder`."""
    environment = {**os.environ, "VIDEO_ANALYSIS_DATA_DIR": str(folder / "data")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "monolith", "webhooks", *arguments, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_line_works_with_a_server_and_without(tmp_path: Path) -> None:
    async with receiver() as there:
        async with Server(tmp_path, WORKERS="1") as server, server.client() as client:
            code, out, err = await command(tmp_path, "add", there.url, "--event", "RunCompleted")
            assert (code, out[:6]) == (0, "whsec_"), err
            [webhook] = (await client.get("/webhooks")).json()
        there.status = 500
        code, out, _ = await command(tmp_path, "test", webhook["webhook_id"])
        assert (code, out) == (1, "not delivered: the receiver answered 500 Internal Server Error\n")
        assert there.deliveries[0].is_signed_by(await _secret(tmp_path, webhook["webhook_id"]))
        code, _, err = await command(tmp_path, "add", there.url, "--event", "RunComplete")
        assert code == 3
        assert "did you mean RunCompleted?" in err.replace("\n", " ")


async def _secret(folder: Path, webhook_id: str) -> str:
    path = folder / "data" / "secrets" / "webhooks" / webhook_id
    text = await asyncio.to_thread(path.read_text)
    return str(httpx.Response(200, text=text).json()["secret"])
