"""Watching by WHEP: aiortc is the viewer, a test publishes what a clip holds, encoder processes are real."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import httpx
import msgspec
import numpy as np
import pytest
from aiortc import AudioStreamTrack, VideoStreamTrack
from av.video.frame import VideoFrame

from eventsourcing.codec import EventCodec
from monolith.access.rates import TokenBuckets
from monolith.access.scopes import Scope
from monolith.domain.detection import ObjectDetection
from monolith.domain.events import DOMAIN_EVENTS
from monolith.domain.segment import StoredFrame
from monolith.ingest.messages import FrameReady
from monolith.live.feeds import LiveFeed, LiveFeeds
from monolith.live.packets import CLOCK_RATE, LivePacket
from monolith.live.playback.broadcast import PlaybackOptions
from monolith.live.playback.clock import milliseconds
from monolith.live.playback.encoder_places import EncoderPlaces
from monolith.live.playback.frame_times import FrameTimes
from monolith.live.playback.results import LiveResults
from monolith.live.playback.session import Client
from monolith.live.playback.sessions import TooManyViewersError, Viewers
from monolith.live.webrtc.ice import IceOptions
from monolith.live.webrtc.sdp import NoCommonCodecError
from tests.integration.test_access import guarded_api
from tests.live_clips import endless, packets_of, publish
from tests.peers.whep import Viewer
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import OBJECTS, VIDEO, analysed, submitted
from tests.videos import Picture, Recipe, make_video, read_barcode

FRAMES = 100
LONG = 250
"""Frames of a clip that does not begin again soon, however late a picture comes."""
PASSES = Recipe(frames=FRAMES, gop=25, width=320, height=240)
B_FRAMES = replace(PASSES, b_frames=2)
WHEP = f"/whep/{VIDEO}"
SDP = {"Content-Type": "application/sdp"}
ICE = IceOptions(interfaces=("lo",))


@dataclass
class Live:
    """The API, and a video that is published."""

    api: Api
    viewers: Viewers
    feeds: LiveFeeds
    times: FrameTimes

    async def signal(self, offer: str, *, query: str = "", key: str = "") -> str:
        headers = SDP | ({"Authorization": f"Bearer {key}"} if key else {})
        response = await self.api.client.post(WHEP + query, content=offer, headers=headers)
        assert response.status_code == 201, response.text
        return response.text

    async def begin(self, viewer: Viewer) -> str:
        """Let `viewer` watch; the path of its session."""
        path = ""

        async def signal(offer: str) -> str:
            nonlocal path
            response = (await self.api.client.post(WHEP, content=offer, headers=SDP)).raise_for_status()
            path = httpx.URL(response.headers["location"]).path
            return response.text

        await viewer.watch(signal)
        return path

    def watch(self, *, codec: str | None = None, query: str = "") -> Watching:
        return Watching(self, Viewer(codec=codec), query)

    @asynccontextmanager
    async def published(
        self, packets: list[LivePacket], told: Callable[[LivePacket], None] = lambda packet: None
    ) -> AsyncIterator[LiveFeed]:
        feed = self.feeds.open(VIDEO)
        publishing = asyncio.create_task(publish(feed, endless(packets), told=told))
        try:
            while not feed.newest_group:
                await asyncio.sleep(0.01)
            yield feed
        finally:
            publishing.cancel()
            await asyncio.wait({publishing})
            self.feeds.close(feed, "the network is gone")


class Watching:
    """A viewer who is connected by the API, as `async with`."""

    def __init__(self, live: Live, viewer: Viewer, query: str) -> None:
        self._live = live
        self._viewer = viewer
        self._query = query

    async def __aenter__(self) -> Viewer:
        await self._viewer.watch(lambda offer: self._live.signal(offer, query=self._query))
        return self._viewer

    async def __aexit__(self, *error: object) -> None:
        await self._viewer.peer.close()


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with running_api(tmp_path) as api, live_by(api) as live:
        yield live


@asynccontextmanager
async def live_by(api: Api) -> AsyncIterator[Live]:
    await api.happened(*submitted())
    feeds, times = LiveFeeds(), FrameTimes()
    results = LiveResults(api.store, EventCodec(DOMAIN_EVENTS), times)
    options = PlaybackOptions(viewers=3, publisher_patience=5)
    async with Viewers(feeds, results, ICE, options) as viewers:
        api.answer_by(replace(api.services, viewers=viewers))
        yield Live(api, viewers, feeds, times)


def picture_of(frame: VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def shown(frame: VideoFrame) -> int:
    return read_barcode(picture_of(frame))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def following(numbers: list[int], frames: int = FRAMES) -> Iterator[int]:
    """Steps from each picture to the next, of a clip of so many."""
    for earlier, later in itertools.pairwise(numbers):
        yield (later - earlier) % frames


async def test_packets_are_passed_through_and_show_the_clip(live: Live, tmp_path: Path) -> None:
    packets = packets_of(make_video(tmp_path, PASSES))
    async with live.published(packets), live.watch() as first, live.watch() as second:
        numbers = [shown(await first.picture()) for _ in range(40)]
        assert list(following(numbers)) == [1] * 39
        assert (numbers[0] - 1) % PASSES.gop == 0
        assert len([shown(await second.picture()) for _ in range(10)]) == 10
        assert (live.viewers.encoders, len(live.viewers)) == (0, 2)


@pytest.mark.parametrize("codec", ["h264", "vp8"])
async def test_b_frames_are_encoded_once_for_all(live: Live, tmp_path: Path, codec: str) -> None:
    packets = packets_of(make_video(tmp_path, replace(B_FRAMES, frames=LONG)))
    async with live.published(packets):
        async with live.watch(codec=codec) as first:
            assert shown(await first.picture()) > 0
            async with live.watch(codec=codec) as second:
                numbers = [shown(await second.picture()) for _ in range(20)]
                steps = following(numbers, LONG)
                assert all(1 <= step <= LONG // 2 for step in steps), "late ones are left out"
                assert live.viewers.encoders == 1
            await first.picture()
        await until(lambda: not live.viewers.encoders and not len(live.viewers))


async def test_there_are_no_more_encoders_than_may_be(
    live: Live, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who needs none watches on; who needs one more is let go."""
    live.viewers.places = EncoderPlaces(1)
    async with (
        live.published(packets_of(make_video(tmp_path, PASSES))),
        live.watch() as passed,
        live.watch(codec="vp8") as encoded,
    ):
        assert shown(await encoded.picture()) > 0
        async with live.watch(query="?overlay=burned"):
            await until(lambda: len(live.viewers) == 3)
            await until(lambda: len(live.viewers) == 2)
        assert shown(await encoded.picture()) > 0 and shown(await passed.picture()) > 0
        assert len(live.viewers.places) == 1
    await until(lambda: not len(live.viewers.places))
    assert live.viewers.places.started == 1
    assert "VIDEO_ANALYSIS_MAX_LIVE_ENCODERS" in caplog.text


@pytest.mark.parametrize("b_frames", [0, 2])
async def test_who_loses_pictures_gets_a_keyframe(live: Live, tmp_path: Path, b_frames: int) -> None:
    """Also where the publisher sends none for long: the viewer begins anew with the newest group."""
    live.viewers.options = replace(live.viewers.options, longest_group=60)
    long = replace(PASSES, frames=LONG, gop=LONG, b_frames=b_frames)
    async with live.published(packets_of(make_video(tmp_path, long))), live.watch() as viewer:
        while not (await viewer.picture()).key_frame:
            continue
        numbers = [shown(await viewer.picture()) for _ in range(5)]
        await viewer.lose()
        while not (picture := await viewer.picture()).key_frame:
            numbers.append(shown(picture))
        assert shown(picture) == 1 or b_frames
        assert len(numbers) < LONG - 50
        assert live.viewers.encoders == (b_frames > 0)


async def test_results_name_the_very_picture(live: Live, tmp_path: Path) -> None:
    """Frame 5, 10, … of the publisher are analysed; the number in the picture played at the result's time is theirs."""
    packets = packets_of(make_video(tmp_path, PASSES))
    analysing = Analysing(live, step=5)
    async with analysing.at_work(), live.published(packets, analysing.published), live.watch() as viewer:
        numbers: dict[int, int] = {}
        async with asyncio.timeout(60):
            while len([one for one in viewer.messages if one["type"] == "results"]) < 8:
                picture = await viewer.picture()
                numbers[viewer.rtp_timestamp(picture)] = shown(picture)
        for _ in range(5):
            picture = await viewer.picture()
            numbers[viewer.rtp_timestamp(picture)] = shown(picture)
    hello, *results = viewer.messages
    assert hello == {"type": "hello", "video_id": VIDEO, "player_delay_ms": 500, "clock_rate": CLOCK_RATE}
    drawn = [one for one in results if one["rtp_timestamp"] in numbers]
    assert len(drawn) >= 6
    for one in drawn:
        assert numbers[one["rtp_timestamp"]] == (one["frame_number"] - 1) % FRAMES + 1
        assert (one["width"], one["height"]) == (320, 240)
        assert one["inference_results"][0]["label"] == "car"


async def test_server_sent_events_carry_what_the_data_channel_does(live: Live, tmp_path: Path) -> None:
    packets = packets_of(make_video(tmp_path, PASSES))
    analysing = Analysing(live, step=5)
    started = time.time()
    async with analysing.at_work(), live.published(packets, analysing.published), Viewer() as viewer:
        place = await live.begin(viewer)
        await until(lambda: bool(viewer.messages))
        told = await told_by(live.api.client, place + "/results", 6)
        answer = (await live.api.client.get(place)).raise_for_status().json()
        needed = {id_of(one) for _, one in told[1:]} | {answer["clock"]["frame_number"]}
        await until(lambda: needed <= {id_of(one) for one in viewer.messages[1:]})
    (hello, *results), sent = told, {id_of(one): one for one in viewer.messages[1:]}
    assert hello == ("hello", viewer.messages[0])
    assert [kind for kind, _ in results] == ["results"] * 5
    assert all(sent[id_of(one)] == one for _, one in results)
    assert all(started < one["wall_time"] < time.time() for _, one in results)
    assert answer["clock_rate"] == CLOCK_RATE and answer["pictures_sent"] > 10
    assert answer["clock"].items() <= sent[answer["clock"]["frame_number"]].items()
    assert started < answer["wall_time"] < time.time()


async def test_results_as_events_end_with_the_session(live: Live, tmp_path: Path) -> None:
    async with live.published(packets_of(make_video(tmp_path, PASSES))), Viewer() as viewer:
        place = await live.begin(viewer)
        async with asyncio.timeout(60), live.api.client.stream("GET", place + "/results") as events:
            lines = events.aiter_lines()
            while await anext(lines) != "event: hello":
                pass
            await live.api.client.delete(place)
            assert [line async for line in lines if line.startswith("event:")] == []
        assert (await live.api.client.get(place + "/results")).status_code == 404
        assert (await live.api.client.get(place)).json()["type"].endswith(":session-not-found")


def id_of(message: dict[str, Any]) -> int:
    return int(message["frame_number"])


async def told_by(client: httpx.AsyncClient, path: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """The first `count` server-sent events: their names and data."""
    found: list[tuple[str, dict[str, Any]]] = []
    async with asyncio.timeout(60), client.stream("GET", path) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        kind = ""
        async for line in events.aiter_lines():
            name, _, value = line.partition(": ")
            kind = value if name == "event" else kind
            if name == "data":
                found.append((kind, json.loads(value)))
            if len(found) == count:
                break
    return found


async def test_burned_boxes_lie_on_the_object_of_their_frame(live: Live, tmp_path: Path) -> None:
    live.viewers.options = replace(live.viewers.options, player_delay=3.0)
    packets = packets_of(make_moving(tmp_path / "moving.mp4"))
    analysing = Analysing(live, step=2, box_of=lambda number: square(number))
    async with (
        analysing.at_work(),
        live.published(packets, analysing.published),
        live.watch(query="?overlay=burned") as viewer,
    ):
        compared = 0
        async with asyncio.timeout(200):
            while compared < 25:
                picture = picture_of(await viewer.picture())
                box, dark = extent(is_colourful(picture)), extent(picture.max(axis=2) < 60)
                if box is not None and dark is not None:
                    compared += 1
                    assert abs(box[0] - dark[0]) <= 3
                    assert abs(box[1] - dark[1]) <= 3
        assert live.viewers.encoders == 1


async def test_who_watches_goes_on_with_a_publisher_who_comes_again(live: Live, tmp_path: Path) -> None:
    packets = packets_of(make_video(tmp_path, PASSES))
    async with live.published(packets):
        viewer = Viewer()
        await viewer.watch(live.signal)
        before = [await viewer.picture() for _ in range(5)]
    async with viewer, live.published(packets):
        async with asyncio.timeout(60):
            while True:
                picture = await viewer.picture()
                assert (picture.pts or 0) > (before[-1].pts or 0)
                if shown(picture) == 10:
                    break


async def test_watching_ends_with_a_publisher_who_ends_in_order(live: Live, tmp_path: Path) -> None:
    packets = packets_of(make_video(tmp_path, PASSES))
    async with live.published(packets) as feed, live.watch() as viewer:
        await viewer.picture()
        live.feeds.close(feed)
        await until(lambda: not len(live.viewers))


async def test_watching_ends_when_the_key_is_revoked(tmp_path: Path) -> None:
    async with guarded_api(tmp_path) as guarded, live_by(guarded.api) as live:
        key, record = guarded.file.add("", (Scope.READ,), None)
        await guarded.ring.load()
        async with live.published(packets_of(make_video(tmp_path, PASSES))), Viewer() as viewer:
            refused = await guarded.api.client.post(WHEP, content=await offer(), headers=SDP)
            assert refused.status_code == 401
            await viewer.watch(lambda offer: live.signal(offer, key=key))
            await viewer.picture()
            guarded.file.revoke(record.key_id)
            await until(lambda: not len(live.viewers))


async def test_a_connection_that_is_not_closed_in_time_leaves_its_publisher(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monolith.live.webrtc.peers._CLOSE_SECONDS", 0.05)
    async with live.published(packets_of(make_video(tmp_path, PASSES))) as feed, live.watch() as viewer:
        await viewer.picture()
        (session,) = live.viewers._sessions.values()
        with monkeypatch.context() as hanging:
            hanging.setattr(session.peer, "close", asyncio.Event().wait)
            await session.close()
        assert session._closing is not None and session._closing.exception() is None
        assert feed.readers == 0
        await session.peer.close()


async def test_nothing_to_watch(live: Live) -> None:
    refused = await live.api.client.post(WHEP, content=await offer(), headers=SDP)
    assert refused.status_code == 404
    assert "not live" in refused.json()["detail"]
    unknown = "/whep/0197c0de-0000-7000-8000-00000000ffff"
    assert (await live.api.client.post(unknown, content=await offer(), headers=SDP)).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("garbage", SDP, 400),
        ("v=0\r\n", SDP, 400),
        ("", SDP, 400),
        ("{}", {"Content-Type": "application/json"}, 415),
        ("x" * 70_000, SDP, 413),
    ],
)
async def test_bad_offers(live: Live, body: str, headers: dict[str, str], status: int) -> None:
    live.feeds.open(VIDEO)
    answer = await live.api.client.post(WHEP, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert len(live.viewers) == 0


async def test_what_a_viewer_would_send_is_not_taken(live: Live, tmp_path: Path) -> None:
    async with live.published(packets_of(make_video(tmp_path, PASSES))), Viewer() as viewer:
        viewer.peer.addTrack(AudioStreamTrack())
        viewer.peer.addTransceiver(VideoStreamTrack(), "sendonly")
        answer = await viewer.watch(live.signal)
        assert re.findall(r"^a=(sendonly|recvonly|sendrecv|inactive)", answer, re.MULTILINE) == [
            "sendonly", "inactive", "inactive"
        ]  # fmt: skip
        assert shown(await viewer.picture()) > 0
        (session,) = live.viewers._sessions.values()
        tracks: list[Any] = [one.receiver.track for one in session.peer.getTransceivers()]
        assert all(track is None or not track._queue.qsize() for track in tracks)


async def test_an_offer_that_sends_first_or_is_too_long_is_refused(live: Live) -> None:
    live.feeds.open(VIDEO)
    text = await offer()
    for changed, why in (
        (text.replace("a=recvonly", "a=sendonly"), "its first `m=video` has to be recvonly"),
        (await offer(videos=4), "more than 4 `m=` lines"),
    ):
        answer = await live.api.client.post(WHEP, content=changed, headers=SDP)
        assert answer.status_code == 400, answer.text
        assert why in answer.json()["detail"]
    assert not live.viewers._broadcasts


async def test_who_sends_too_much_is_ended(live: Live, tmp_path: Path) -> None:
    async with live.published(packets_of(make_video(tmp_path, PASSES))), live.watch() as viewer:
        await viewer.picture()
        await until(lambda: viewer.channel.readyState == "open")
        for _ in range(8):
            viewer.channel.send(b"x" * 50_000)
        await until(lambda: not len(live.viewers))


async def test_who_opens_many_channels_is_ended(live: Live, tmp_path: Path) -> None:
    async with live.published(packets_of(make_video(tmp_path, PASSES))), live.watch() as viewer:
        await viewer.picture()
        for _ in range(12):
            viewer.peer.createDataChannel("more")
        await until(lambda: not len(live.viewers))


async def test_an_offer_without_a_common_codec(live: Live) -> None:
    live.feeds.open(VIDEO)
    text = (await offer()).replace("VP8/90000", "VP9/90000").replace("H264/90000", "H265/90000")
    answer = await live.api.client.post(WHEP, content=text, headers=SDP)
    assert answer.status_code == 422, answer.text
    assert len(live.viewers) == 0


async def test_the_session_over_http(live: Live) -> None:
    live.feeds.open(VIDEO)
    answers = [await live.api.client.post(WHEP, content=await offer(), headers=SDP) for _ in range(4)]
    assert [one.status_code for one in answers] == [201, 201, 201, 503]
    assert int(answers[3].headers["retry-after"]) > 0
    first = answers[0]
    place, tag = httpx.URL(first.headers["location"]).path, first.headers["etag"]
    fragment = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag}
    candidate = "m=video 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"
    patch = live.api.client.patch
    assert (await patch(place, content=candidate, headers=fragment)).status_code == 204
    assert (await patch(place, content=candidate, headers=fragment | {"If-Match": '"x"'})).status_code == 412
    assert (await patch(place, content="garbage", headers=fragment)).status_code == 400
    assert (await live.api.client.delete(place)).status_code == 200
    assert (await live.api.client.delete(place)).status_code == 404
    assert len(live.viewers) == 2


async def test_a_viewer_who_never_connects_is_forgotten(live: Live) -> None:
    live.viewers.options = replace(live.viewers.options, connect_timeout=0.2)
    live.feeds.open(VIDEO)
    await live.signal(await offer())
    await until(lambda: not len(live.viewers))


async def test_a_viewer_who_vanishes_is_forgotten(live: Live, tmp_path: Path) -> None:
    live.viewers.options = replace(live.viewers.options, viewer_silence=3)
    async with live.published(packets_of(make_video(tmp_path, PASSES))), live.watch() as viewer:
        await viewer.picture()
        viewer.vanish()
        await until(lambda: not len(live.viewers))


async def test_one_client_takes_not_all_places(live: Live) -> None:
    live.viewers.options = replace(live.viewers.options, viewers=100, connecting_per_client=2)
    live.feeds.open(VIDEO)
    text = await offer()
    answers = [await live.api.client.post(WHEP, content=text, headers=SDP) for _ in range(3)]
    assert [one.status_code for one in answers] == [201, 201, 503]
    assert "of your address are connecting already" in answers[2].json()["detail"]


async def test_places_of_one_address_beyond_this_machine(live: Live) -> None:
    live.viewers.options = replace(live.viewers.options, viewers=100, viewers_per_client=2)
    live.feeds.open(VIDEO)
    text = (await offer()).encode()
    for address, most in (("192.0.2.7", 2), ("192.0.2.8", 2), ("127.0.0.1", 3)):
        for _ in range(most):
            await live.viewers.open(VIDEO, text, overlay=False, client=Client(address))
    with pytest.raises(TooManyViewersError, match="VIDEO_ANALYSIS_MAX_VIEWERS_PER_CLIENT"):
        await live.viewers.open(VIDEO, text, overlay=False, client=Client("192.0.2.7"))


async def test_one_client_begins_only_so_often(live: Live) -> None:
    burst = 5
    live.viewers._offers = TokenBuckets(rate=0.02, burst=burst)
    live.feeds.open(VIDEO)
    text = await offer()
    answers: list[httpx.Response] = []
    while len(answers) < 100 and (not answers or answers[-1].status_code == 201):
        answers.append(await live.api.client.post(WHEP, content=text, headers=SDP))
        if answers[-1].status_code == 201:
            await live.api.client.delete(httpx.URL(answers[-1].headers["location"]).path)
    assert answers[-1].status_code == 429 and int(answers[-1].headers["retry-after"]) >= 1
    assert len(answers) > burst


async def test_refused_offers_leave_nothing(live: Live) -> None:
    live.viewers.options = replace(live.viewers.options, viewers=10)
    text = (await offer()).replace("VP8/90000", "VP9/90000").replace("H264/90000", "H265/90000")
    for number in range(5):
        live.feeds.open(f"v{number}")
    refused = (live.viewers.open(f"v{number}", text.encode(), overlay=False) for number in range(5))
    found = await asyncio.gather(*refused, return_exceptions=True)
    assert all(isinstance(one, NoCommonCodecError) for one in found)
    assert not live.viewers._broadcasts


async def test_candidates_of_another_ice_session_are_not_taken(live: Live) -> None:
    live.feeds.open(VIDEO)
    made = await live.api.client.post(WHEP, content=await offer(), headers=SDP)
    (session,) = live.viewers._sessions.values()
    assert session._way is not None
    before = len(session._way.remote_candidates)
    headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": made.headers["etag"]}
    candidate = "m=video 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"
    for name, more in (("other", 0), (session._username, 1)):
        body = f"a=ice-ufrag:{name}\r\n{candidate}"
        patched = await live.api.client.patch(
            httpx.URL(made.headers["location"]).path, content=body, headers=headers
        )
        assert patched.status_code == 204
        assert len(session._way.remote_candidates) == before + more


async def test_a_session_is_changed_with_its_own_key_only(tmp_path: Path) -> None:
    async with guarded_api(tmp_path) as guarded, live_by(guarded.api) as live:
        own, other = [await guarded.key(Scope.READ) for _ in range(2)]
        live.feeds.open(VIDEO)
        made = await guarded.asked("POST", WHEP, own, content=await offer(), headers=SDP)
        place, tag = httpx.URL(made.headers["location"]).path, made.headers["etag"]
        headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": tag}
        for key, statuses in ((other, (403, 403)), (own, (204, 200))):
            patched = await guarded.asked("PATCH", place, key, content="", headers=headers)
            deleted = await guarded.asked("DELETE", place, key)
            assert (patched.status_code, deleted.status_code) == statuses


async def test_what_the_endpoint_takes_and_its_ice_servers_can_be_asked_for(tmp_path: Path) -> None:
    """Before the offer, without a key; passwords are told to those with one."""
    ice = IceOptions(servers=("stun:192.0.2.1", "turn:192.0.2.1"), username="u", credential="secret")
    async with guarded_api(tmp_path) as guarded, live_by(guarded.api) as live:
        live.viewers.ice = ice
        asked = await guarded.asked("OPTIONS", WHEP)
        assert asked.status_code == 200 and asked.headers["accept-post"] == "application/sdp"
        assert asked.headers.get_list("link") == ['<stun:192.0.2.1>; rel="ice-server"']
        session = await guarded.asked("OPTIONS", f"{WHEP}/any")
        assert session.headers["accept-patch"] == "application/trickle-ice-sdpfrag"


async def test_late_results_of_a_connection_are_not_shown_in_the_next(live: Live, tmp_path: Path) -> None:
    """Times of publishers begin anew with each connection: a picture of the second has the time of one of the first."""
    packets = packets_of(make_video(tmp_path, PASSES))
    frame = StoredFrame(frame_number=40, timestamp=0.0, offset=0, length=0, width=320, height=240)
    time_of_40 = milliseconds(packets[39].pts) / 1000

    async def watched(viewer: Viewer, number: int) -> None:
        async with asyncio.timeout(60):
            while shown(await viewer.picture()) != number:
                pass

    async with Viewer() as viewer:
        async with live.published(packets):
            await viewer.watch(live.signal)
            await watched(viewer, 45)
            live.times.note(VIDEO, FrameReady(0, frame, 0.0, 0.0, 0.0, source_time=time_of_40))
        async with live.published(packets):
            await watched(viewer, 20)
            await live.api.happened(analysed([40], OBJECTS, found=()))
            await watched(viewer, 60)
            assert [one["type"] for one in viewer.messages] == ["hello"]
            second = msgspec.structs.replace(frame, frame_number=41)
            live.times.note(VIDEO, FrameReady(0, second, 0.0, 0.0, 0.0, source_time=time_of_40))
            await live.api.happened(analysed([41], OBJECTS, found=()))
            await until(lambda: len(viewer.messages) == 2)
    assert viewer.messages[1]["frame_number"] == 41


async def offer(*, videos: int = 1) -> str:
    async with Viewer() as viewer:
        for _ in range(videos - 1):
            viewer.peer.addTransceiver("video", "recvonly")
        await viewer.peer.setLocalDescription(await viewer.peer.createOffer())
        return viewer.peer.localDescription.sdp


class Analysing:
    """Stands for the decoder process and the models: every `step`th frame gets its time and, later, its result."""

    def __init__(
        self,
        live: Live,
        *,
        step: int,
        box_of: Callable[[int], tuple[float, float, float, float]] = lambda number: (1, 2, 30, 40),
    ) -> None:
        self._live = live
        self._step = step
        self._box_of = box_of
        self._frames = 0
        self._queue: asyncio.Queue[int] = asyncio.Queue()

    def published(self, packet: LivePacket) -> None:
        """The next picture in the order of showing (the clip has no B-frames)."""
        self._frames += 1
        if self._frames % self._step:
            return
        frame = StoredFrame(
            frame_number=self._frames, timestamp=0.0, offset=0, length=0, width=320, height=240
        )
        own = milliseconds(packet.pts) / 1000
        self._live.times.note(VIDEO, FrameReady(0, frame, 0.0, 0.0, 0.0, source_time=own))
        self._queue.put_nowait(self._frames)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._judge())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _judge(self) -> None:
        while True:
            number = await self._queue.get()
            await asyncio.sleep(0.02)
            found = ObjectDetection(class_id=2, class_name="car", confidence=0.9, xyxy=self._box_of(number))
            await self._live.api.happened(analysed([number], OBJECTS, found=(found,)))


MOVING = 90


def square(number: int) -> tuple[float, float, float, float]:
    """Where the dark square of frame `number` is: it moves two pixels a frame."""
    left = 20 + 2 * ((number - 1) % MOVING)
    return left, 100, left + 60, 160


def make_moving(path: Path) -> Path:
    """A dark square that moves over white, in pictures of 320×240."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25", "bf": "0", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(1, MOVING + 1):
            picture = np.full((240, 320, 3), 235, np.uint8)
            left, top, right, bottom = (int(value) for value in square(number))
            picture[top:bottom, left:right] = 10
            container.mux(stream.encode(VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def is_colourful(picture: Picture) -> Picture:
    """Which pixels of the lower half are of a box; its label is above."""
    spread = np.asarray(picture.max(axis=2).astype(int) - picture.min(axis=2), int)
    spread[:115] = 0
    return np.asarray(spread > 50)


def extent(mask: Picture) -> tuple[int, int] | None:
    """First and last column."""
    columns = np.flatnonzero(np.asarray(mask).sum(axis=0) > 5)
    return (int(columns[0]), int(columns[-1])) if len(columns) else None
