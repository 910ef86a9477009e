"""Publishers who show a wrong token or stream key: counted as wrong API keys are, and slowed down by address."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from monolith.access.control import AccessControl
from monolith.access.rates import TokenBuckets
from monolith.access.refusals import Refusals
from monolith.live.rtmp_server import RtmpOptions, RtmpServer
from tests.integration.test_rtmp_server import connected, publishing, running
from tests.unit.api.harness import Api, running_api

SDP = {"Content-Type": "application/sdp"}
BODY = {"modelsToRun": ["color_detection"]}


async def offer(api: Api, video_id: str, token: str) -> tuple[int, str]:
    headers = {**SDP, **({"Authorization": f"Bearer {token}"} if token else {})}
    answer = await api.client.post(f"/whip/{video_id}", content="v=0", headers=headers)
    return answer.status_code, answer.json()["detail"]


async def refused(api: Api) -> dict[str, float]:
    """Reason → how often, of those that there were."""
    lines = (await api.client.get("/metrics")).text.splitlines()
    found = [line.split('"') for line in lines if line.startswith("video_analysis_access_refusals_total{")]
    return {reason: float(count[1:]) for _, reason, count in found if float(count[1:])}


async def test_wrong_tokens_are_counted_strictly_and_right_ones_let_in(tmp_path: Path) -> None:
    access = AccessControl(failures=TokenBuckets(0.01, 2))
    async with running_api(tmp_path, access=access) as api:
        made = (await api.client.post("/analysis/webrtc-endpoint", json=BODY)).json()
        other = (await api.client.post("/analysis/webrtc-endpoint", json=BODY)).json()
        video_id, token = made["video_id"], made["token"]
        assert (await offer(api, video_id, ""))[0] == 401
        assert (await offer(api, video_id, "guess"))[0] == 401
        assert (await offer(api, video_id, other["token"]))[0] == 403
        status, detail = await offer(api, video_id, token[:-4] + "wwww")
        assert status == 429 and detail.startswith(
            "too many wrong tokens came from your address; try again in"
        )
        assert (await offer(api, video_id, token))[0] == 400, "let in, and its offer is wrong"
        assert await refused(api) == {"no token": 1, "wrong token": 2, "too often": 1}


async def test_wrong_stream_keys_are_counted_strictly_and_right_ones_let_in(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    refusals = Refusals(TokenBuckets(0.01, 2), registry)

    def counted(reason: str) -> float | None:
        return registry.get_sample_value("video_analysis_access_refusals_total", {"reason": reason})

    async with running(tmp_path) as world:
        world.server = RtmpServer(world.sources, RtmpOptions(port=0), refusals)
        async with world.server.serving():
            made = await world.endpoint()
            told = []
            for _ in range(3):
                async with connected(world) as wire:
                    wire.send(wire.publisher.begin(made.secret[:-4] + "wwww"))
                    await wire.until_closed()
                    told.append(b"too many wrong keys came from your address" in wire.received)
            assert told == [False, False, True]
            assert (counted("wrong stream key"), counted("too often")) == (2, 1)
            async with publishing(world, made.secret, made.video_id):
                assert world.server.publishing == 1
            await world.until_alone()
