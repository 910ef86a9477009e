"""RTSP sources against GStreamer's server, and against servers that lie."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import SourceError
from tests.integration.followed import Story, access_to, follow, follow_request, refusal
from tests.peers.certificates import Certificate, make_certificate
from tests.peers.rtsp import file_mount, live_mount, rtsp_server
from tests.peers.scripted_rtsp import SDP, Asked, interrupting_front, scripted_rtsp, tls_front
from tests.videos import Recipe, make_video

FRAMES = 40
TRIES = 5
USER, PASSWORD = "camera man", "p@ss:w/rd%41?"
ESCAPED = "camera%20man:p%40ss%3Aw%2Frd%2541%3F"


@pytest.fixture
def slots() -> Iterator[FrameSlots]:
    """So many that no picture of a live source is lost for want of one, however busy the machine."""
    slots = FrameSlots.create(64, 640 * 480 * 3)
    yield slots
    slots.close()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path, Recipe(frames=FRAMES, gop=10))


async def refused(url: str, **access: object) -> SourceError:
    """The error of a source that must be refused. No text of it may show credentials."""
    error = await refusal(access_to(url, "rtsp", **access))
    for secret in (USER, PASSWORD, *ESCAPED.split(":"), "camera"):
        assert secret not in str(error)
    return error


def assert_in_order(story: Story, first_frame: int) -> None:
    """To its goodbye: pictures with their numbers and their times, none twice."""
    assert story.done is not None and story.done.end_of_source and story.done.broken is None
    assert story.connected is not None and story.connected.first_frame == first_frame
    numbers = sorted([*story.numbers, *story.lost])
    assert numbers == list(range(first_frame, first_frame + len(numbers)))
    pictures = [story.shown[number] for number in story.numbers if number in story.shown]
    assert pictures and all(later > earlier for earlier, later in itertools.pairwise(pictures))
    times = [frame.timestamp for frame in story.frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert 5 <= times[0] < 60
    if len(pictures) == len(times):
        assert times[-1] - times[0] == pytest.approx((pictures[-1] - pictures[0]) / 25, abs=0.1)


class TestGStreamer:
    @pytest.mark.parametrize("transport", ["tcp", "udp"])
    async def test_every_picture_comes_and_the_goodbye_is_the_end(
        self, pool: DecoderPool, slots: FrameSlots, video: Path, tmp_path: Path, transport: str
    ) -> None:
        """In one of a few tries: the server waits for no one, and this machine may be busy. By UDP the goodbye may
        overtake pictures, and some may be lost."""
        async with rtsp_server({"/file": file_mount(video)}, tmp_path) as port:
            access = access_to(f"rtsp://127.0.0.1:{port}/file", "rtsp", rtsp_transport=transport)
            for _ in range(TRIES):
                request = follow_request(
                    access, tmp_path, live=True, first_frame=11, timeline_start=time.time() - 5
                )
                story = await follow(pool, slots, request, tmp_path)
                assert_in_order(story, first_frame=11)
                if story.shown == {number + 10: number for number in range(1, FRAMES + 1)}:
                    return
                if transport == "udp" and len(story.frames) > FRAMES // 2:
                    return
        pytest.fail(f"in none of {TRIES} tries did every picture come")

    async def test_a_live_source_goes_on_over_segments_until_it_is_cancelled(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        async with rtsp_server({"/live": live_mount(rate=10)}, tmp_path) as port:
            access = access_to(f"rtsp://127.0.0.1:{port}/live", "rtsp")
            info = await pool.probe_source(access)
            request = follow_request(access, tmp_path, live=True, frame_step=2, segment_seconds=1.0)
            story = await follow(pool, slots, request, tmp_path, until=lambda story: len(story.segments) > 2)

        assert (info.live, info.codec, info.width, info.height) == (True, "h264", 320, 240)
        assert info.frame_rate == pytest.approx(10, abs=0.5)
        assert story.done is not None and not story.done.end_of_source and story.done.broken is None
        assert all(number % 2 == 0 for number in story.numbers)
        first, second = story.segments[:2]
        assert first.last_frame is not None and first.frames_seen == first.last_frame
        assert second.last_frame == first.last_frame + second.frames_seen
        assert sorted([*first.numbers, *first.lost]) == list(range(2, first.last_frame + 1, 2))

    async def test_times_do_not_go_back_with_the_clock(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        async with rtsp_server({"/live": live_mount(rate=10)}, tmp_path) as port:
            access = access_to(f"rtsp://127.0.0.1:{port}/live", "rtsp")
            request = follow_request(
                access, tmp_path, live=True, timeline_start=time.time() + 3600, timeline_least=90.0
            )
            story = await follow(pool, slots, request, tmp_path, until=lambda story: bool(story.frames))

        assert story.connected is not None and story.connected.timestamp == 90.0
        assert story.connected.wall_time == pytest.approx(time.time(), abs=60)

    async def test_pictures_that_are_not_sampled_are_signs_of_life(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        async with rtsp_server({"/live": live_mount(rate=10)}, tmp_path) as port:
            access = access_to(f"rtsp://127.0.0.1:{port}/live", "rtsp")
            request = follow_request(access, tmp_path, live=True, frame_step=1_000_000)
            story = await follow(pool, slots, request, tmp_path, until=lambda story: len(story.progress) > 1)

        assert story.frames == []
        assert 0 < story.progress[0] < story.progress[1]

    async def test_auto_takes_udp_where_there_is_no_tcp(self, pool: DecoderPool, tmp_path: Path) -> None:
        async with rtsp_server({"/udp": live_mount(protocols=["udp"])}, tmp_path) as port:
            url = f"rtsp://127.0.0.1:{port}/udp"
            assert (await pool.probe_source(access_to(url, "rtsp", rtsp_transport="auto"))).codec == "h264"
            error = await refused(url, rtsp_transport="tcp")
        assert error.permanent
        assert error.reason.startswith("the server does not send by this transport")

    @pytest.mark.parametrize("basic", [False, True])
    async def test_user_and_password_are_used_and_never_shown(
        self, pool: DecoderPool, tmp_path: Path, basic: bool
    ) -> None:
        mount = live_mount(user=USER, password=PASSWORD, basic=basic)
        async with rtsp_server({"/live": mount}, tmp_path) as port:
            place = f"127.0.0.1:{port}/live"
            assert (await pool.probe_source(access_to(f"rtsp://{ESCAPED}@{place}", "rtsp"))).width == 320
            wrong = await refused(f"rtsp://{ESCAPED}wrong@{place}")
            missing = await refused(f"rtsp://{place}")
        assert wrong.permanent and missing.permanent
        assert wrong.reason == (
            "the server does not accept the user name and password of the URL (401 Unauthorized)"
        )
        assert missing.reason == (
            "the server wants a user name and a password (401 Unauthorized): submit rtsp://user:password@host/path"
        )

    async def test_an_unknown_path(self, tmp_path: Path) -> None:
        async with rtsp_server({"/live": live_mount()}, tmp_path) as port:
            error = await refused(f"rtsp://{ESCAPED}@127.0.0.1:{port}/none")
        assert (error.reason, error.permanent) == (
            "the server has nothing under this path (404 Not Found)",
            True,
        )

    async def test_a_server_that_dies_breaks_the_connection(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        started = asyncio.Event()

        def note(story: Story) -> bool:
            if len(story.numbers) > 3:
                started.set()
            return False

        async with rtsp_server({"/live": live_mount()}, tmp_path) as port:
            access = access_to(f"rtsp://{ESCAPED}@127.0.0.1:{port}/live", "rtsp", rtsp_transport="tcp")
            request = follow_request(access, tmp_path, live=True)
            task = asyncio.create_task(follow(pool, slots, request, tmp_path, until=note))
            await started.wait()
        story = await task
        assert story.done is not None and not story.done.end_of_source
        assert story.done.broken == "the server closed the connection"
        assert story.done.last_frame is not None and story.done.last_frame >= max(story.numbers)
        error = await refused(access.url)
        assert not error.permanent and "the server cannot be reached" in error.reason


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Certificate:
        return make_certificate(tmp_path)

    async def test_a_certificate_that_is_trusted(
        self, slots: FrameSlots, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
        async with (
            DecoderPool(slots, 1) as pool,
            rtsp_server({"/live": live_mount()}, tmp_path) as behind,
            tls_front(behind, certificate.server()) as port,
        ):
            access = access_to(f"rtsps://localhost:{port}/live", "rtsp", rtsp_transport="tcp")
            assert (await pool.probe_source(access)).width == 320
            error = await refused(f"rtsps://127.0.0.1:{port}/live")
            assert error.permanent and "IP address mismatch" in error.reason

    async def test_a_certificate_that_no_one_trusts(
        self, pool: DecoderPool, certificate: Certificate
    ) -> None:
        async with scripted_rtsp(lambda asked: asked.answer("200 OK"), certificate.server()) as server:
            error = await refused(f"rtsps://{ESCAPED}@localhost:{server.port}/live")
            assert server.asked == []
        assert error.permanent
        assert error.reason == "the server's certificate is not trusted (TLS): self-signed certificate"


class TestLies:
    @pytest.mark.parametrize(
        ("location", "told"),
        [
            ("rtsp://169.254.169.254/latest", "169.254.169.254 is a link-local or metadata address"),
            ("rtsp://[::ffff:169.254.169.254]/x", "(inside it 169.254.169.254)"),
            ("file:///etc/passwd", "the redirect is refused: file: is not allowed"),
            ("http://127.0.0.1/", "the redirect is refused: http: is not RTSP"),
            ("rtsp://user@:99999999/x", "the redirect is refused"),
        ],
    )
    async def test_redirects_to_forbidden_places(self, location: str, told: str) -> None:
        async with scripted_rtsp(lambda asked: asked.answer("302 Found", Location=location)) as server:
            error = await refused(f"rtsp://{ESCAPED}@127.0.0.1:{server.port}/x")
        assert error.permanent and told in error.reason

    async def test_loopback_is_refused_while_serving_beyond_it(self) -> None:
        async with scripted_rtsp(lambda asked: asked.answer("200 OK")) as server:
            url = f"rtsp://127.0.0.1:{server.port}/x"
            error = await refused(url, loopback_only=False)
            assert server.asked == []
        assert error.permanent and "is not a public address" in error.reason

    async def test_redirects_are_followed_without_the_credentials(
        self, pool: DecoderPool, tmp_path: Path
    ) -> None:
        async with rtsp_server({"/live": live_mount()}, tmp_path) as port:
            location = f"rtsp://localhost:{port}/live"
            async with scripted_rtsp(lambda asked: asked.answer("302 Found", Location=location)) as server:
                url = f"rtsp://{ESCAPED}@127.0.0.1:{server.port}/x"
                assert (await pool.probe_source(access_to(url, "rtsp", rtsp_transport="tcp"))).width == 320

    async def test_credentials_stay_with_their_origin(self) -> None:
        def challenge(asked: Asked) -> bytes:
            return asked.answer("401 Unauthorized", WWW_Authenticate='Basic realm="x"')

        async with scripted_rtsp(challenge) as other:
            location = f"rtsp://127.0.0.1:{other.port}/y"
            async with scripted_rtsp(lambda asked: asked.answer("302 Found", Location=location)) as first:
                error = await refused(f"rtsp://{ESCAPED}@127.0.0.1:{first.port}/x")
        assert "wants a user name" in error.reason
        assert other.asked and all("authorization" not in asked.headers for asked in other.asked)

    async def test_endless_redirects(self) -> None:
        async with scripted_rtsp(lambda asked: asked.answer("302 Found", Location="/again")) as server:
            error = await refused(f"rtsp://127.0.0.1:{server.port}/x")
        assert (error.reason, error.permanent) == ("more than 5 redirects", True)
        assert len(server.asked) == 6

    async def test_a_redirect_in_a_session_breaks_the_connection(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        message = b"REDIRECT * RTSP/1.0\r\nCSeq: 99\r\nLocation: rtsp://169.254.169.254/latest\r\n\r\n"
        async with (
            rtsp_server({"/live": live_mount()}, tmp_path) as behind,
            interrupting_front(behind, message, frames=200) as port,
        ):
            access = access_to(f"rtsp://127.0.0.1:{port}/live", "rtsp", rtsp_transport="tcp")
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert story.done is not None and not story.done.end_of_source and story.frames
        assert story.done.broken == "the server ended the session with a redirect"

    async def test_multicast_is_refused(self) -> None:
        def answer(asked: Asked) -> bytes:
            match asked.method:
                case "DESCRIBE":
                    return asked.answer("200 OK", SDP, Content_Type="application/sdp")
                case "SETUP":
                    return asked.answer(
                        "200 OK", Transport="RTP/AVP;multicast;destination=239.1.1.1;port=5000-5001;ttl=4"
                    )
            return asked.answer("200 OK", Public="DESCRIBE, SETUP, PLAY, TEARDOWN")

        async with scripted_rtsp(answer) as server:
            error = await refused(f"rtsp://127.0.0.1:{server.port}/x", rtsp_transport="udp")
        assert error.permanent and "multicast group" in error.reason

    async def test_what_is_no_rtsp(self) -> None:
        async with scripted_rtsp(lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
            error = await refused(f"rtsp://127.0.0.1:{server.port}/x")
        assert error.permanent
        assert "does not speak RTSP as it should: a message begins with neither" in error.reason

    async def test_a_server_that_says_nothing_is_given_up(self) -> None:
        async with scripted_rtsp(lambda asked: b"") as server:
            error = await refused(f"rtsp://127.0.0.1:{server.port}/x", read_timeout=0.5)
        assert (error.reason, error.permanent) == ("the server sent nothing for 0.5 s", False)

    async def test_a_silent_server_is_left_when_the_request_is_cancelled(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        asked = asyncio.Event()

        def silent(_: Asked) -> bytes:
            asked.set()
            return b""

        async with scripted_rtsp(silent) as server:
            access = access_to(f"rtsp://127.0.0.1:{server.port}/x", "rtsp", read_timeout=60)
            async with pool.follow(follow_request(access, tmp_path, live=True)) as session:
                await session.lend(range(slots.count))
                await asked.wait()
                await session.cancel()
                (done,) = [message async for message in session]
        assert done is session.done
        assert session.done is not None and session.done.frames_seen == 0
        assert len(pool.pids) == 1  # it ended by itself and was not killed
