from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from monolith.domain.segment import SourceInfo
from monolith.ingest.errors import SourceError
from monolith.ingest.probe import probe_file
from monolith.ingest.reader import DEMUXERS, LIMITS, Limits, open_video
from monolith.ingest.scan import digest_of, load_table
from tests.media import sample_clip
from tests.videos import Recipe, make_audio, make_header, make_video, remux


def _probe(path: Path, segment_seconds: float = 1.0, limits: Limits = LIMITS) -> SourceInfo:
    return probe_file(path, path.with_name("scan.npy"), segment_seconds, limits=limits)


def _refusal(path: Path, limits: Limits = LIMITS) -> str:
    with pytest.raises(SourceError) as caught:
        _probe(path, limits=limits)
    assert caught.value.permanent
    assert not path.with_name("scan.npy").exists()
    return caught.value.reason


def test_a_real_clip(tmp_path: Path) -> None:
    found = probe_file(sample_clip("bikes.mp4"), tmp_path / "scan.npy", 60.0)

    assert (found.codec, found.width, found.height, found.frames) == ("h264", 640, 272, 250)
    assert (found.frame_rate, found.duration, found.rotation) == (25.0, 10.0, 0)
    assert found.indexed and found.truncated is None and found.warnings == ()
    assert [(one.segment, one.first_frame, one.last_frame) for one in found.segments] == [(0, 1, 250)]


def test_the_table_is_stored_under_its_digest(tmp_path: Path) -> None:
    found = _probe(make_video(tmp_path, Recipe(frames=30, durations=(40, 20))))

    table = load_table(tmp_path / "scan.npy")
    assert table is not None
    assert found.pts_digest == digest_of(table)
    assert len(table) == found.frames == 30
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".npy"] == ["scan.npy"]


@pytest.mark.parametrize(("rotation", "clockwise"), [(90, 270), (-90, 90), (180, 180)])
def test_rotation_is_applied_to_the_size(tmp_path: Path, rotation: int, clockwise: int) -> None:
    found = _probe(make_video(tmp_path, Recipe(rotation=rotation)))

    assert found.rotation == clockwise
    assert (found.width, found.height) == ((160, 120) if rotation == 180 else (120, 160))


def test_transport_streams_are_sequential(tmp_path: Path) -> None:
    found = _probe(make_video(tmp_path, Recipe(".ts", frames=60)))

    assert not found.indexed and found.pts_digest is None and found.frames is None
    assert [(one.first_frame, one.last_frame) for one in found.segments] == [(1, 25), (26, 50), (51, None)]
    assert found.warnings == (
        "frames are numbered as they are decoded: mpegts files have no timestamps that could be relied on",
    )
    assert not (tmp_path / "scan.npy").exists()


def test_repeated_timestamps_make_a_source_sequential(tmp_path: Path) -> None:
    """Matroska counts milliseconds: pictures closer together share one."""
    path = remux(make_video(tmp_path, Recipe(frames=20, durations=(40,))), tmp_path / "video.mkv")
    data = path.read_bytes()
    with open_video(path) as video:
        payloads = [bytes(packet) for packet in video.packets() if packet.size]
    at = (
        data.index(payloads[6]) - 3
    )  # the block's relative time (16 bits) and its flags lie before its payload
    earlier = data.index(payloads[5]) - 3
    path.write_bytes(data[:at] + data[earlier : earlier + 2] + data[at + 2 :])

    found = _probe(path)

    assert not found.indexed
    assert found.warnings[0].endswith("1 of 20 packets repeat a timestamp")


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert _refusal(path) == "the file is empty: submit a file with a video in it"


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("Grüße, no video here\n" * 50)
    assert _refusal(path).startswith("the file is text, not a video: submit one of MP4, MOV, MKV")


def test_random_bytes(tmp_path: Path) -> None:
    path = tmp_path / "random.mp4"
    path.write_bytes(np.random.default_rng(1).bytes(20_000))
    assert _refusal(path).startswith("the file is not a video that can be read")


def test_a_missing_file(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none.mp4") == "the video file cannot be opened: No such file or directory"


def test_sound_without_pictures(tmp_path: Path) -> None:
    assert _refusal(make_audio(tmp_path / "sound.mp4")) == (
        "the file has no video stream (it has: audio): submit a file with pictures"
    )


def test_a_missing_moov_atom(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=40))
    path.write_bytes(path.read_bytes()[:2000])
    assert _refusal(path).startswith("the MP4 file has no moov atom")


def test_a_video_stream_without_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(".avi", "mpeg4", frames=0))
    assert _refusal(path) == "the video stream holds no frames: submit a file with at least one picture"


def test_pictures_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(frames=5, gop=1))
    with open_video(path) as video:
        payloads = [bytes(packet) for packet in video.packets() if packet.size]
    data = path.read_bytes()
    for payload in payloads:
        data = data.replace(payload, b"\xff" * len(payload))
    path.write_bytes(data)
    assert _refusal(path).startswith("no picture of the h264 video could be decoded (5 damaged packets;")


def test_absurd_dimensions_in_the_header(tmp_path: Path) -> None:
    for width, height in [(20_000, 40), (16_000, 16_000)]:
        assert _refusal(make_header(tmp_path / "video.mp4", width, height)) == (
            f"pictures of {width}×{height} are too large:"
            " at most 16384 pixels a side and 134217728 pixels a picture"
        )
    assert _refusal(make_header(tmp_path / "video.mp4", 65_000, 65_000))  # beyond what FFmpeg itself takes


def test_the_limits_can_be_set(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe())
    assert _refusal(path, Limits(side=150)).startswith(
        "pictures of 160×120 are too large: at most 150 pixels"
    )
    assert _refusal(path, Limits(pixels=10_000)).endswith("10000 pixels a picture")


_SECRET = "file:///etc/hostname"
_DISGUISES = {
    "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{_SECRET}\n#EXT-X-ENDLIST\n",
    "concat": f"ffconcat version 1.0\nfile {_SECRET}\n",
    "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{_SECRET}</BaseURL></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", _DISGUISES)
def test_lists_disguised_as_videos_are_not_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "video.mp4"
    path.write_text(_DISGUISES[kind])
    assert "not a video" in _refusal(path)


def test_a_playlist_of_a_playable_video_is_not_followed(tmp_path: Path) -> None:
    """Nothing but the whitelist stands between this playlist and the other file."""
    other = make_video(tmp_path, Recipe(".ts"), "other")
    path = tmp_path / "playlist.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n")
    assert _refusal(path) == (
        "the file is not a video but an HLS playlist: submit the address of the playlist, or the video it names"
    )


@pytest.mark.parametrize(
    "name", ["http://127.0.0.1:9/x.mp4", "concat:a.mp4|b.mp4", "pipe:0", "tcp://127.0.0.1:9"]
)
def test_names_that_look_like_protocols_are_files(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="cannot be opened: No such file or directory"):
        open_video(Path(name))


def test_demuxers_that_open_other_files_are_not_allowed() -> None:
    forbidden = {
        "hls",
        "dash",
        "concat",
        "image2",
        "image2pipe",
        "lavfi",
        "sdp",
        "rtsp",
        "rtp",
        "tee",
        "mpjpeg",
    }
    assert not forbidden & set(DEMUXERS)


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp4"
    with av.open(str(make_video(tmp_path, Recipe()))) as source, av.open(str(path), "w") as target:
        cover = target.add_stream("mjpeg", rate=1)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 1000, 1000, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        moving = target.add_stream_from_template(source.streams.video[0])
        target.mux(cover.encode(av.VideoFrame(1000, 1000, "yuvj420p")))
        target.mux(cover.encode())
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = moving
                target.mux(packet)

    found = _probe(path)

    assert (found.codec, found.width, found.height, found.frames) == ("h264", 160, 120, 40)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi"])
def test_a_file_cut_short_is_told_by_its_bytes(tmp_path: Path, suffix: str) -> None:
    codec = {".mkv": "libx264", ".webm": "libvpx", ".avi": "mpeg4"}[suffix]
    path = make_video(tmp_path, Recipe(suffix, codec, frames=60, gop=5))
    whole = path.read_bytes()
    assert _probe(path).truncated is None
    path.write_bytes(whole[: len(whole) * 2 // 3])

    found = _probe(path)

    assert found.truncated == (
        f"the file announces {len(whole)} bytes and has {len(whole) * 2 // 3}: it was cut short"
    )
    assert found.frames is None or 0 < found.frames < 60


def test_a_cut_mp4_with_its_table_in_front(tmp_path: Path) -> None:
    source = make_video(tmp_path, Recipe(frames=60, gop=5), "source")
    path = remux(source, tmp_path / "front.mp4", options={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])

    found = _probe(path)

    assert found.truncated is not None and f"announces {len(whole)} bytes" in found.truncated
    assert found.frames is not None and 0 < found.frames < 60


def test_a_header_that_promises_a_longer_video(tmp_path: Path) -> None:
    path = make_video(tmp_path, Recipe(".flv", frames=100, durations=(100,)))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    found = _probe(path)

    assert found.truncated is not None and found.truncated.startswith("the file announces 9.9 s")
