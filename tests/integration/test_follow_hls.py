"""HLS sources: made by ffmpeg, served by nginx; and playlists that lead where they should not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from monolith.domain.segment import SourcePosition
from monolith.inference.shared_memory import FrameSlots
from monolith.ingest.decoders import DecoderPool
from monolith.ingest.errors import SourceError
from monolith.ingest.hls.places import name_of
from monolith.ingest.hls.playlist import MediaSegment
from tests.integration.followed import Story, access_to, count_pictures, follow, follow_request, refusal
from tests.peers.hls import live_hls, make_hls
from tests.peers.nginx import Nginx, nginx
from tests.peers.programs import ffmpeg
from tests.peers.scripted_http import Handler, Request, answering, head, serving, whole
from tests.videos import Recipe, make_video

FRAMES = 60
STEP = range(1, FRAMES + 1)


@pytest.fixture
def slots() -> Iterator[FrameSlots]:
    """So many that no picture of a live source is lost for want of one, however busy the machine."""
    slots = FrameSlots.create(64, 640 * 480 * 3)
    yield slots
    slots.close()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path, Recipe(frames=FRAMES, gop=10))


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Nginx]:
    async with nginx(tmp_path / "web", tmp_path / "nginx") as web:
        yield web


def media_playlist(*lines: str, live: bool = False, sequence: int = 0) -> bytes:
    start = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{sequence}"]
    return "\n".join([*start, *lines, *([] if live else ["#EXT-X-ENDLIST"])]).encode()


class TestWithAnEnd:
    @pytest.mark.parametrize(
        "options",
        [(), ("-hls_segment_type", "fmp4", "-hls_segment_filename", "part-%03d.m4s"),
         ("-hls_flags", "single_file", "-hls_segment_filename", "single.ts")],
        ids=["ts", "fmp4", "byte ranges"],
    )  # fmt: skip
    async def test_every_picture_comes_in_its_segment(
        self,
        pool: DecoderPool,
        slots: FrameSlots,
        web: Nginx,
        video: Path,
        tmp_path: Path,
        options: tuple[str, ...],
    ) -> None:
        make_hls(video, web.root, options=options)
        access = access_to(f"{web.url}/index.m3u8", "hls")

        info = await pool.probe_source(access)
        story = await follow(pool, slots, follow_request(access, tmp_path, segment_seconds=0.8), tmp_path)

        assert (info.live, info.container, info.codec, info.indexed) == (False, "hls", "h264", False)
        assert info.duration == pytest.approx(FRAMES / 25, abs=0.1)
        assert info.frame_rate == pytest.approx(25)
        assert story.shown == {number: number for number in STEP}
        assert [segment.last_frame for segment in story.segments] == [20, 40, 60]
        assert [segment.frames_seen for segment in story.segments] == [20, 20, 20]
        assert story.done is not None and story.done.end_of_source and story.lost == []
        times = [frame.timestamp for frame in story.frames]
        assert [later - times[0] for later in times] == pytest.approx(
            [n * 0.04 for n in range(FRAMES)], abs=1e-4
        )

    async def test_a_resumed_source_numbers_as_before_and_skips(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, video: Path, tmp_path: Path
    ) -> None:
        make_hls(video, web.root)
        access = access_to(f"{web.url}/index.m3u8", "hls")
        request = follow_request(access, tmp_path, first_frame=21, frame_step=2, skip=(22, 24))
        story = await follow(pool, slots, request, tmp_path)
        assert story.shown == {number: number for number in range(26, FRAMES + 1, 2)}
        assert story.connected is not None and story.connected.first_frame == 21
        assert story.done is not None and (story.done.last_frame, story.done.frames_seen) == (FRAMES, 40)

    async def test_segments_encrypted_with_aes_128(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, video: Path, tmp_path: Path
    ) -> None:
        (web.root / "secret.key").write_bytes(os.urandom(16))
        (tmp_path / "key info").write_text(f"secret.key\n{web.root / 'secret.key'}\n")
        make_hls(video, web.root, options=["-hls_key_info_file", str(tmp_path / "key info")])
        access = access_to(f"{web.url}/index.m3u8", "hls")
        assert b"METHOD=AES-128" in (web.root / "index.m3u8").read_bytes()

        story = await follow(pool, slots, follow_request(access, tmp_path), tmp_path)
        assert story.shown == {number: number for number in STEP}
        assert web.requests.count("/secret.key") == 1

        (web.root / "secret.key").write_bytes(os.urandom(16))
        assert "could not be decrypted" in (await refusal(access)).reason
        (web.root / "secret.key").write_bytes(b"short")
        assert (await refusal(access)).reason == "the key of the playlist has 5 bytes instead of 16"

    async def test_the_largest_variant_up_to_1080_lines_is_taken(
        self, pool: DecoderPool, web: Nginx, video: Path, tmp_path: Path
    ) -> None:
        make_hls(video, web.root / "small")
        make_hls(make_video(tmp_path, Recipe(frames=10, width=320, height=240), "large"), web.root / "large")
        lines = ["#EXTM3U"]
        for size, name in (("160x120", "small"), ("3840x2160", "nowhere"), ("320x240", "large")):
            lines += [f"#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION={size}", f"{name}/index.m3u8"]
        lines += ['#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"', "sound.m3u8"]
        (web.root / "master.m3u8").write_text("\n".join(lines))
        info = await pool.probe_source(access_to(f"{web.url}/master.m3u8", "hls"))
        assert (info.width, info.height) == (320, 240)

    async def test_sizes_may_change_at_a_discontinuity(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        """Each part starts its timestamps anew; the video's go on."""
        for name, size in (("a", (160, 120)), ("b", (320, 240))):
            recipe = Recipe(".ts", frames=20, width=size[0], height=size[1])
            make_video(web.root, recipe, name)
        playlist = media_playlist("#EXTINF:0.8", "a.ts", "#EXT-X-DISCONTINUITY", "#EXTINF:0.8", "b.ts")
        (web.root / "index.m3u8").write_bytes(playlist)
        access = access_to(f"{web.url}/index.m3u8", "hls")
        story = await follow(pool, slots, follow_request(access, tmp_path), tmp_path)
        assert [story.shown[number] for number in story.numbers] == [*range(1, 21), *range(1, 21)]
        assert [frame.width for frame in story.frames] == [160] * 20 + [320] * 20
        times = [frame.timestamp for frame in story.frames]
        assert [later - times[0] for later in times] == pytest.approx([n * 0.04 for n in range(40)], abs=1e-3)

    async def test_a_codec_may_change_without_a_word(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        """The playlist tells of no discontinuity; the tables of the transport stream do."""
        make_video(web.root, Recipe(".ts", frames=20), "a")
        make_video(web.root, Recipe(".ts", codec="mpeg2video", frames=20), "b")
        (web.root / "index.m3u8").write_bytes(media_playlist("#EXTINF:0.8", "a.ts", "#EXTINF:0.8", "b.ts"))
        access = access_to(f"{web.url}/index.m3u8", "hls")
        story = await follow(pool, slots, follow_request(access, tmp_path), tmp_path)
        assert [story.shown[number] for number in story.numbers] == [*range(1, 21), *range(1, 21)]
        live = await follow(
            pool, slots, follow_request(access, tmp_path, live=True, behind=_before("a.ts")), tmp_path
        )
        assert [live.shown[number] for number in live.numbers] == [*range(1, 21), *range(1, 21)]
        assert live.position is not None and (live.position.sequence, live.position.name) == (
            1,
            name_of_file("b.ts"),
        )

    async def test_a_missing_segment_ends_it_for_good(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, video: Path, tmp_path: Path
    ) -> None:
        make_hls(video, web.root)
        (web.root / "index-001.ts").unlink()
        access = access_to(f"{web.url}/index.m3u8", "hls")
        with pytest.raises(SourceError, match="404 Not Found") as caught:
            await follow(pool, slots, follow_request(access, tmp_path), tmp_path)
        assert caught.value.permanent

    async def test_a_broken_segment_is_gone_on_with(
        self, pool: DecoderPool, slots: FrameSlots, video: Path, tmp_path: Path
    ) -> None:
        make_hls(video, tmp_path)
        served: list[str] = []

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            data = (tmp_path / request.path.lstrip("/")).read_bytes()
            served.append(f"{request.path}@{request.start}")
            answer = whole(data, ETag='"1"')
            if request.start:
                span = f"bytes {request.start}-{len(data) - 1}/{len(data)}"
                answer = head("206 Partial Content", Content_Length=len(data) - request.start,
                              Content_Range=span, ETag='"1"') + data[request.start :]  # fmt: skip
            elif request.path.endswith("1.ts"):
                answer = answer[: len(answer) - len(data) // 2]
            writer.write(answer)

        async with serving(handler) as server:
            access = access_to(f"{server.base}/index.m3u8", "hls")
            story = await follow(pool, slots, follow_request(access, tmp_path), tmp_path)
        assert story.shown == {number: number for number in STEP}
        assert len([line for line in served if line.startswith("/index-001.ts@")]) == 2

    async def test_more_bytes_than_allowed(self, web: Nginx, video: Path) -> None:
        make_hls(video, web.root)
        error = await refusal(access_to(f"{web.url}/index.m3u8", "hls", max_bytes=5_000))
        assert error.permanent and "more bytes than the limit of 5000 bytes" in error.reason

    async def test_a_segment_that_does_not_end_is_no_segment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("monolith.ingest.hls.source._MOST_BYTES_OF_LEAST", 200_000)
        monkeypatch.setattr("monolith.ingest.hls.source._MOST_BYTES_A_SECOND", 100_000)
        async with serving(_endless(make_video(tmp_path, Recipe(".ts", frames=20)), pause=0.0)) as server:
            access = access_to(f"{server.base}/index.m3u8", "hls")
            with pytest.raises(
                SourceError, match="a segment of 4 s, as the playlist says, has more than 400000"
            ) as no:
                await asyncio.to_thread(count_pictures, access)
        assert no.value.permanent

    async def test_a_source_that_drips_is_waited_for_so_long_in_all(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        async with serving(_endless(make_video(tmp_path, Recipe(".ts", frames=20)), pause=0.1)) as server:
            access = access_to(f"{server.base}/index.m3u8", "hls", total_timeout=1.5)
            with pytest.raises(SourceError, match=r"waited for longer than 1\.5 s") as caught:
                await follow(pool, slots, follow_request(access, tmp_path), tmp_path)
        assert caught.value.permanent

    async def test_a_source_that_is_opened_anew_with_every_segment_is_waited_for_no_longer(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        data = make_video(tmp_path, Recipe(".ts", frames=5)).read_bytes()
        parts = ["#EXT-X-DISCONTINUITY", "#EXTINF:0.2", "a.ts"] * 20

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.path == "/index.m3u8":
                writer.write(whole(media_playlist(*parts)))
                return
            await asyncio.sleep(0.2)
            writer.write(whole(data))

        async with serving(handler) as server:
            access = access_to(f"{server.base}/index.m3u8", "hls", total_timeout=1.5)
            with pytest.raises(SourceError, match=r"waited for longer than 1\.5 s") as caught:
                await follow(pool, slots, follow_request(access, tmp_path), tmp_path)
        assert caught.value.permanent


def _endless(video: Path, *, pause: float) -> Handler:
    """A playlist with an end, whose only segment is `video` again and again, `pause` seconds after each kilobyte."""
    data = video.read_bytes()

    async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/index.m3u8":
            writer.write(whole(media_playlist("#EXTINF:4", "a.ts")))
            return
        writer.write(head("200 OK"))
        while True:
            for start in range(0, len(data), 1024 if pause else len(data)):
                writer.write(data[start : start + (1024 if pause else len(data))])
                await writer.drain()
                await asyncio.sleep(pause)

    return handler


class TestLive:
    async def test_it_is_followed_from_its_newest_segment_on(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        async with live_hls(web.root, tmp_path, rate=10) as playlist:
            access = access_to(f"{web.url}/{playlist.name}", "hls")
            info = await pool.probe_source(access)
            request = follow_request(access, tmp_path, live=True, segment_seconds=1.0)
            story = await follow(pool, slots, request, tmp_path, until=lambda story: len(story.numbers) >= 25)
        assert (info.live, info.duration) == (True, None)
        assert story.done is not None and not story.done.end_of_source and story.done.broken is None
        numbers = sorted([*story.numbers, *story.lost])
        assert numbers == list(range(1, len(numbers) + 1))
        assert story.lost == []
        assert [segment.last_frame for segment in story.segments[:2]] == [10, 20]
        times = [frame.timestamp for frame in story.frames]
        assert times[0] == 0.0
        assert times == pytest.approx([n / 10 for n in range(len(times))], abs=0.01)

    async def test_its_end_is_the_end(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        coming = asyncio.Event()

        def note(story: Story) -> bool:
            if story.numbers:
                coming.set()
            return False

        async with live_hls(web.root, tmp_path, rate=10) as playlist:
            request = follow_request(access_to(f"{web.url}/{playlist.name}", "hls"), tmp_path, live=True)
            task = asyncio.create_task(follow(pool, slots, request, tmp_path, until=note))
            await coming.wait()
        assert playlist.read_text().rstrip().endswith("#EXT-X-ENDLIST")
        story = await task
        assert story.done is not None and story.done.end_of_source
        assert story.done.last_frame == max(story.numbers)

    async def test_a_playlist_that_stands_still_breaks(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        make_video(web.root, Recipe(".ts", frames=10), "a")
        (web.root / "live.m3u8").write_bytes(media_playlist("#EXTINF:0.4", "a.ts", live=True))
        access = access_to(f"{web.url}/live.m3u8", "hls", read_timeout=2.9)
        story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert story.done is not None and not story.done.end_of_source
        assert story.done.broken == "the playlist has named no new segment for 3 s"
        assert story.numbers == list(range(1, 11))

    async def test_a_playlist_that_is_being_written_is_read_again(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        for name in ("1", "2"):
            make_video(tmp_path, Recipe(".ts", frames=10), name)
        first = ("#EXTINF:0.4", "1.ts")
        states = [
            media_playlist(*first, live=True),
            b"",
            b"#EXTM3",
            media_playlist(*first, "#EXTINF:0.4", "2.ts"),
        ]

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.path == "/live.m3u8":
                writer.write(whole(states.pop(0) if len(states) > 1 else states[0]))
            else:
                writer.write(whole((tmp_path / request.path[1:]).read_bytes()))

        async with serving(handler) as server:
            access = access_to(f"{server.base}/live.m3u8", "hls")
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert story.done is not None and (story.done.broken, story.done.end_of_source) == (None, True)
        assert sorted([*story.numbers, *story.lost]) == list(range(1, 21))

    async def test_segments_that_are_gone_are_passed_over(
        self, pool: DecoderPool, slots: FrameSlots, tmp_path: Path
    ) -> None:
        for name in ("1.ts", "3.ts"):
            make_video(tmp_path, Recipe(".ts", frames=10), name[0])
        loads = 0

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal loads
            if request.path == "/live.m3u8":
                loads += 1
                count = min(loads, 3)
                lines = [line for n in range(1, count + 1) for line in ("#EXTINF:0.4", f"{n}.ts")]
                writer.write(whole(media_playlist(*lines, live=count < 3, sequence=7)))
            elif (file := tmp_path / request.path[1:]).exists():
                writer.write(whole(file.read_bytes()))
            else:
                writer.write(head("404 Not Found", Content_Length=0))

        async with serving(handler) as server:
            access = access_to(f"{server.base}/live.m3u8", "hls")
            story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert [story.shown[number] for number in story.numbers] == [*range(1, 11), *range(1, 11)]
        assert story.done is not None and story.done.end_of_source
        assert "1 segments were passed over: the server answered 404 Not Found" in story.done.warnings

    async def test_a_wait_for_the_next_segment_is_cancelled(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        make_video(web.root, Recipe(".ts", frames=10), "a")
        (web.root / "live.m3u8").write_bytes(media_playlist("#EXTINF:0.4", "a.ts", live=True))
        access = access_to(f"{web.url}/live.m3u8", "hls", read_timeout=60.0)
        request = follow_request(access, tmp_path, live=True)
        story = await follow(pool, slots, request, tmp_path, until=lambda story: len(story.numbers) >= 5)
        assert story.done is not None and story.done.broken is None
        assert story.done.last_frame == story.done.frames_seen == len(story.numbers) + len(story.lost)
        assert len(pool.pids) == 1  # it was not killed


class TestTakenUpAgain:
    """A live source that is connected to anew, behind the last picture that the connection before has given."""

    @pytest.mark.parametrize(
        ("recipe", "options"),
        [(Recipe(frames=30, gop=5), ()),
         (Recipe(".ts", frames=30, gop=5, b_frames=2, open_gop=True), ()),
         (Recipe(frames=30, gop=5, b_frames=2), ("-hls_segment_type", "fmp4", "-hls_segment_filename", "p-%03d.m4s")),
         (Recipe(frames=30, gop=5), ("-hls_flags", "single_file", "-hls_segment_filename", "single.ts"))],
        ids=["ts", "open gops", "fmp4", "byte ranges"],
    )  # fmt: skip
    async def test_no_picture_comes_twice_and_none_is_left_out(
        self,
        pool: DecoderPool,
        slots: FrameSlots,
        web: Nginx,
        tmp_path: Path,
        recipe: Recipe,
        options: tuple[str, ...],
    ) -> None:
        playlist = make_hls(make_video(tmp_path, recipe), web.root, seconds=0.2, options=options)
        whole_source = playlist.read_text()
        first, rest = whole_source.split("#EXTINF", 2)[:2]
        access = access_to(f"{web.url}/index.m3u8", "hls")
        seen: list[int] = []
        ends: list[bool] = []
        behind: SourcePosition | None = None
        playlist.write_text(f"{first}#EXTINF{rest}".replace("#EXT-X-ENDLIST", ""))
        for pictures in (2, 1, 2, 7, 30):
            request = follow_request(access, tmp_path, live=True, first_frame=len(seen) + 1, behind=behind)
            story = await follow(pool, slots, request, tmp_path, until=_has(pictures))
            seen += [story.shown[number] for number in story.numbers]
            ends.append(story.done is not None and story.done.end_of_source)
            behind = story.position or behind
            playlist.write_text(whole_source)  # the first connection begins with its first segment
        assert seen == list(range(1, 31))
        assert ends == [False] * 4 + [True]

    async def test_its_times_go_on_where_they_were(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        """What is caught up with was earlier, by as much as is listed after it."""
        make_hls(make_video(tmp_path, Recipe(frames=50, gop=10)), web.root, seconds=0.4)
        access = access_to(f"{web.url}/index.m3u8", "hls")
        edge = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        assert edge.position is not None and edge.position.sequence == 4 and len(edge.numbers) == 10
        first = msgspec.structs.replace(
            edge.position, sequence=0, name=name_of_file("index-000.ts"), timestamp=None
        )
        request = follow_request(access, tmp_path, live=True, timeline_start=time.time() - 60, behind=first)
        story = await follow(pool, slots, request, tmp_path)
        assert story.connected is not None and story.shown[1] == 11
        late = time.time() - story.connected.wall_time  # the rest of the source, and the time to read it
        assert late >= 1.2
        assert story.connected.timestamp == pytest.approx(60 - 1.2, abs=late - 1.2 + 0.1)

    async def test_one_that_has_ended_meanwhile_has_ended(
        self, pool: DecoderPool, slots: FrameSlots, web: Nginx, tmp_path: Path
    ) -> None:
        make_hls(make_video(tmp_path, Recipe(frames=10, gop=5)), web.root, seconds=0.2)
        access = access_to(f"{web.url}/index.m3u8", "hls")
        story = await follow(pool, slots, follow_request(access, tmp_path, live=True), tmp_path)
        request = follow_request(access, tmp_path, live=True, first_frame=6, behind=story.position)
        again = await follow(pool, slots, request, tmp_path)
        assert (again.numbers, again.connected) == ([], None)
        assert again.done is not None and again.done.end_of_source and again.done.last_frame is None


def _has(pictures: int) -> Callable[[Story], bool]:
    return lambda story: len(story.numbers) >= pictures


def _before(name: str) -> SourcePosition:
    """Before the first picture of a playlist's first segment."""
    return SourcePosition(sequence=0, name=name_of_file(name), timestamp=-1.0)


def name_of_file(name: str) -> str:
    return name_of(MediaSegment(0, 1.0, name, None, None, None, 0, False))


class TestLies:
    """Where entries lead is checked as the first URL is; FFmpeg opens nothing."""

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            ("http://169.254.169.254/a.ts", "169.254.169.254 is a link-local or metadata address"),
            ("http://[::ffff:169.254.169.254]/a.ts", "(inside it 169.254.169.254)"),
            ("http://[64:ff9b::a9fe:a9fe]/a.ts", "(inside it 169.254.169.254)"),
            ("//169.254.169.254/a.ts", "169.254.169.254 is a link-local or metadata address"),
            ("/elsewhere.ts", "169.254.169.254 is a link-local or metadata address"),
            ("file:///etc/passwd", "of the playlist is refused: file: is not allowed"),
            ("concat:http://127.0.0.1/a|file:///etc/passwd", "refused: concat: is not allowed"),
            ("data:video/mp2t;base64,AAAA", "refused: data: is not allowed"),
            ("crypto+file:///etc/passwd", "refused: crypto+file: is not allowed"),
            ("http://[broken/a.ts", "is not a URL"),
        ],
    )
    @pytest.mark.parametrize("where", ["segment", "variant", "key", "init"])
    async def test_forbidden_entries(self, entry: str, told: str, where: str) -> None:
        playlist = {
            "segment": media_playlist("#EXTINF:1", entry),
            "variant": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{entry}\n".encode(),
            "key": media_playlist(f'#EXT-X-KEY:METHOD=AES-128,URI="{entry}"', "#EXTINF:1", "a.ts"),
            "init": media_playlist(f'#EXT-X-MAP:URI="{entry}"', "#EXTINF:1", "a.ts"),
        }[where]

        async def handler(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.path == "/elsewhere.ts":
                writer.write(head("302 Found", Location="http://169.254.169.254/x", Content_Length=0))
            else:
                writer.write(whole(playlist))

        async with serving(handler) as server:
            error = await refusal(access_to(f"{server.base}/index.m3u8", "hls"))
            asked = [request.path for request in server.requests]
        assert error.permanent
        if where == "variant" and "a|file" in entry:
            assert "refused" in error.reason
        else:
            assert told in error.reason
        assert set(asked) <= {"/index.m3u8", "/elsewhere.ts"}

    async def test_a_playlist_inside_a_segment_opens_nothing(self, web: Nginx) -> None:
        """Content that FFmpeg would take for a playlist, a list of files, or a file with references."""
        for name, content in {
            "a.ts": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1\nfile:///etc/passwd\n#EXT-X-ENDLIST\n" * 9,
            "b.ts": b"ffconcat version 1.0\nfile /etc/passwd\n" * 99,
        }.items():
            (web.root / name).write_bytes(content)
            (web.root / "index.m3u8").write_bytes(media_playlist("#EXTINF:1", name))
            error = await refusal(access_to(f"{web.url}/index.m3u8", "hls"))
            assert error.permanent and "is not a video that can be read" in error.reason

    @pytest.mark.parametrize(
        ("playlist", "told"),
        [
            (b"<html>", "does not begin with #EXTM3U"),
            (b"#EXTM3U\n#EXTINF:1\na.ts", "names no variants and has no target duration"),
            (b"#EXTM3U\n" + b"x" * 20_000, "a line of more than"),
            (b"#EXTM3U\n" + b"#EXTINF:1\na\n" * 800_000, "is longer than"),
            (b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a.40.2"\na.m3u8', "sound alone"),
            (
                media_playlist('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"', "#EXTINF:1", "a.ts"),
                "encrypted with 'SAMPLE-AES'",
            ),
        ],
    )
    async def test_playlists_that_cannot_be_used(self, playlist: bytes, told: str) -> None:
        async with serving(answering(whole(playlist))) as server:
            error = await refusal(access_to(f"{server.base}/index.m3u8", "hls"))
        assert error.permanent and told in error.reason

    async def test_credentials_go_to_their_origin_alone(
        self, pool: DecoderPool, web: Nginx, video: Path
    ) -> None:
        make_hls(video, web.root)
        listed = web.root / "index.m3u8"
        entries = listed.read_text().replace("index-", f"{web.url}/index-").encode()
        async with serving(answering(whole(entries))) as server:
            url = server.base.replace("//", "//someone:secret@")
            assert (await pool.probe_source(access_to(f"{url}/index.m3u8", "hls"))).width == 160
            assert server.requests[0].headers["authorization"] == "Basic c29tZW9uZTpzZWNyZXQ="
        error = await refusal(access_to(url, "hls"))
        assert "secret" not in error.reason and "someone" not in error.reason

    async def test_sound_alone_is_no_video(self, web: Nginx) -> None:
        subprocess.run(
            [ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-f", "mpegts", web.root / "a.ts"],
            check=True, timeout=60,
        )  # fmt: skip
        (web.root / "index.m3u8").write_bytes(media_playlist("#EXTINF:1", "a.ts"))
        error = await refusal(access_to(f"{web.url}/index.m3u8", "hls"))
        assert error.permanent and "no video stream (it has: audio)" in error.reason
