"""Videos that are read as they arrive in one HTTP answer, and what such an answer can do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import simplejpeg

from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.addresses import AddressPolicy
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.fetch import Fetcher, FetchError, FetchLimits
from monolith.ingest.messages import FrameReady, FramesLost
from tests.integration.followed import Story, access_to, count_pictures, follow, follow_request, refusal
from tests.peers.nginx import nginx
from tests.peers.scripted_http import Handler, Request, answering, head, serving, whole
from tests.videos import Recipe, barcode, make_audio, make_video, remux

FRAMES = 60


@pytest.fixture
def slots() -> Iterator[FrameSlots]:
    """So many that no picture of a live source is lost for want of one, however busy the machine."""
    slots = FrameSlots.create(64, 640 * 480 * 3)
    yield slots
    slots.close()


def chunked(body: bytes, *, end: bool = True, **headers: str) -> bytes:
    """An answer without a length."""
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    return head("200 OK", Transfer_Encoding="chunked", **headers) + chunk + (b"0\r\n\r\n" if end else b"")


def then_silent(answer: bytes) -> Handler:
    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        await asyncio.Event().wait()

    return handler


class TestTransportOf:
    async def asked(self, answer: bytes) -> str:
        limits = FetchLimits(
            max_bytes=10**7, connect_timeout=5, read_timeout=5, total_timeout=60, min_rate=1, first_pause=0.01
        )
        fetcher = Fetcher(AddressPolicy(loopback_only=True), limits)
        async with serving(answering(answer)) as server:
            return await fetcher.transport_of(f"{server.base}/x")

    async def test_by_first_bytes_and_length(self, tmp_path: Path) -> None:
        made = {suffix: make_video(tmp_path, Recipe(suffix, frames=20)).read_bytes()
                for suffix in (".mp4", ".mkv", ".ts", ".flv")}  # fmt: skip
        fragmented = remux(
            tmp_path / "video.mp4", tmp_path / "frag.mp4", options={"movflags": "frag_keyframe+empty_moov"}
        )
        playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
        assert await self.asked(whole(playlist, Content_Type="text/plain")) == "hls"
        assert await self.asked(whole(b"\xef\xbb\xbf" + playlist)) == "hls"
        found = {suffix: await self.asked(whole(data)) for suffix, data in made.items()}
        assert found == {".mp4": "file", ".mkv": "file", ".ts": "http", ".flv": "http"}
        endless = {suffix: await self.asked(chunked(data)) for suffix, data in made.items()}
        assert endless == {".mp4": "file", ".mkv": "http", ".ts": "http", ".flv": "http"}
        assert await self.asked(chunked(fragmented.read_bytes())) == "http"
        multipart = "multipart/x-mixed-replace; boundary=x"
        assert await self.asked(chunked(b"--x\r\n", Content_Type=multipart)) == "http"

    async def test_what_cannot_be_had(self) -> None:
        with pytest.raises(FetchError, match="404 Not Found"):
            await self.asked(head("404 Not Found", Content_Length=0))
        with pytest.raises(FetchError, match="link-local"):
            await self.asked(head("302 Found", Location="http://169.254.169.254/x", Content_Length=0))


class TestWithAnEnd:
    @pytest.mark.parametrize("suffix", [".ts", ".flv"])
    async def test_every_picture_comes(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path, suffix: str
    ) -> None:
        (tmp_path / "web").mkdir()
        video = make_video(tmp_path / "web", Recipe(suffix, frames=FRAMES, gop=20))
        async with nginx(tmp_path / "web", tmp_path / "nginx") as web:
            access = access_to(f"{web.url}/{video.name}", "http")
            info = await pool.probe_source(access)
            story = await follow(pool, slots, follow_request(access, tmp_path, segment_seconds=0.8), tmp_path)
        assert (info.live, info.container, info.codec) == (
            False,
            {".ts": "mpegts", ".flv": "flv"}[suffix],
            "h264",
        )
        assert story.shown == {number: number for number in range(1, FRAMES + 1)}
        assert [segment.last_frame for segment in story.segments] == [20, 40, 60]
        assert story.done is not None and story.done.end_of_source

    async def test_results_come_before_the_rest_has_arrived(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=FRAMES)).read_bytes()
        go_on = asyncio.Event()

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            half = len(data) // 2
            writer.write(head("200 OK", Content_Length=len(data)) + data[:half])
            await writer.drain()
            await go_on.wait()
            writer.write(data[half:])

        def early(story: Story) -> bool:
            if story.segments[0].synced:
                go_on.set()
            return False

        async with serving(handler) as server:
            request = follow_request(access_to(f"{server.base}/a.ts", "http"), tmp_path)
            story = await follow(pool, slots, request, tmp_path, until=early)
        assert story.shown == {number: number for number in range(1, FRAMES + 1)}

    @pytest.mark.parametrize("ranges", [True, False])
    async def test_a_broken_connection_is_gone_on_with(self, tmp_path: Path, ranges: bool) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=FRAMES)).read_bytes()
        count = 0

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            if request.start and ranges:
                span = f"bytes {request.start}-{len(data) - 1}/{len(data)}"
                writer.write(head("206 Partial Content", Content_Length=len(data) - request.start,
                                  Content_Range=span, ETag='"1"') + data[request.start :])  # fmt: skip
                return
            answer = whole(data, ETag='"1"')
            writer.write(answer if count > 2 else answer[: len(answer) - len(data) // (1 + count)])

        async with serving(handler) as server:
            shown = await asyncio.to_thread(count_pictures, access_to(f"{server.base}/a.ts", "http"))
        assert shown == FRAMES

    async def test_a_file_that_changed_is_not_patched_together(self, tmp_path: Path) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=FRAMES)).read_bytes()
        answers = [whole(data, ETag='"1"')[:-9_000], whole(data, ETag='"2"')]

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(answers.pop(0))

        async with serving(handler) as server:
            with pytest.raises(FetchError, match="the file changed while it was read") as caught:
                await asyncio.to_thread(count_pictures, access_to(f"{server.base}/a.ts", "http"))
        assert not caught.value.permanent

    async def test_more_bytes_than_allowed(self, tmp_path: Path) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=FRAMES)).read_bytes()
        async with serving(answering(whole(data))) as server:
            error = await refusal(access_to(f"{server.base}/a.ts", "http", max_bytes=10_000))
        assert error.permanent and "more bytes than the limit" in error.reason


class TestLive:
    async def test_a_chunked_answer_ends_in_order(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=30)).read_bytes()
        async with serving(answering(chunked(data))) as server:
            access = access_to(f"{server.base}/live", "http")
            assert (await pool.probe_source(access)).live
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert story.done is not None and story.done.end_of_source
        assert story.shown == {number: number for number in range(1, 31)}

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (lambda data: head("200 OK", Connection="close") + data, "without saying that this was all"),
            (lambda data: chunked(data, end=False), "the connection broke"),
        ],
    )
    async def test_a_connection_that_ends_otherwise_broke(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path, answer: object, why: str
    ) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=30)).read_bytes()
        assert callable(answer)
        async with serving(answering(answer(data))) as server:
            access = access_to(f"{server.base}/live", "http")
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert story.done is not None and not story.done.end_of_source
        assert story.done.broken is not None and why in story.done.broken
        assert story.done.last_frame == 30

    async def test_silence_breaks_it(self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=30)).read_bytes()
        async with serving(then_silent(chunked(data, end=False))) as server:
            access = access_to(f"{server.base}/live", "http", read_timeout=2.5)
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert story.done is not None and story.done.broken is not None
        assert "sent nothing for too long" in story.done.broken

    async def test_bytes_without_pictures_break_it(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=30)).read_bytes()
        stuffing = b"\x47\x1f\xff\x10" + b"\xff" * 184

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(chunked(data, end=False))
            while True:
                writer.write(b"bc\r\n" + stuffing + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

        async with serving(handler) as server:
            access = access_to(f"{server.base}/live", "http", read_timeout=2.0)
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert story.done is not None and story.done.broken == "no picture came for 8 s"

    async def test_a_silent_server_is_left_when_the_request_is_cancelled(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=30)).read_bytes()
        async with serving(then_silent(chunked(data, end=False))) as server:
            access = access_to(f"{server.base}/live", "http", read_timeout=60.0)
            request = follow_request(access, tmp_path, live=True)
            story = await follow(pool, slots, request, tmp_path, until=lambda story: len(story.numbers) > 9)
        assert story.done is not None and story.done.broken is None
        assert len(pool.pids) == 1  # it was not killed

    async def test_jpegs_one_after_another(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        pictures = [simplejpeg.encode_jpeg(barcode(number)) for number in range(1, 11)]
        parts = [
            f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
            + b"\r\n"
            for data in pictures
        ]
        answer = chunked(b"".join(parts), Content_Type="multipart/x-mixed-replace; boundary=x")
        async with serving(answering(answer)) as server:
            access = access_to(f"{server.base}/camera", "http")
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert [story.shown[number] for number in story.numbers] == list(range(1, len(story.numbers) + 1))
        assert len(story.numbers) >= 9

    async def test_what_finds_no_slot_in_time_is_lost_and_said_to_be(
        self, pool: DecoderPool, tmp_path: Path
    ) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=20)).read_bytes()
        async with serving(answering(chunked(data))) as server:
            request = follow_request(
                access_to(f"{server.base}/live", "http"), tmp_path, live=True, frame_step=2
            )
            lost: list[int] = []
            ready: list[FrameReady] = []
            async with pool.follow(request) as session:
                async for message in session:
                    if isinstance(message, FramesLost):
                        lost += message.frame_numbers
                    elif isinstance(message, FrameReady):
                        ready.append(message)
                    if len(lost) == 9 and not session.outstanding_slots and not ready:
                        await session.lend([3])
        assert lost == [2, 4, 6, 8, 10, 12, 14, 16, 18]
        assert [(frame.slot, frame.frame.frame_number) for frame in ready] == [(3, 20)]


class TestLies:
    async def test_no_video(self, tmp_path: Path) -> None:
        for body, told in {
            b"nonsense" * 5000: "is not a video that can be read",
            make_audio(tmp_path / "a.flv").read_bytes(): "no video stream",
        }.items():
            async with serving(answering(whole(body))) as server:
                error = await refusal(access_to(f"{server.base}/a", "http"))
            assert error.permanent and told in error.reason

    @pytest.mark.parametrize(
        ("location", "told"),
        [
            ("http://169.254.169.254/x", "link-local or metadata address"),
            ("rtsp://127.0.0.1/x", "the redirect is refused: rtsp: is not allowed"),
            ("file:///etc/passwd", "the redirect is refused: file: is not allowed"),
        ],
    )
    async def test_redirects(self, location: str, told: str) -> None:
        async with serving(answering(head("302 Found", Location=location, Content_Length=0))) as server:
            error = await refusal(access_to(f"{server.base}/a", "http"))
        assert error.permanent and told in error.reason
