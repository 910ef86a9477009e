from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eventsourcing.events import RecordedEvent
from monolith.application.open_videos import OpenVideos, Snapshot, video_id_of


def event(position: int, video_id: str, event_type: str) -> RecordedEvent:
    return RecordedEvent(
        stream_name=f"video-{video_id}",
        stream_position=0,
        commit_position=position,
        event_type=event_type,
        data=b"{}",
        metadata_json=b"",
        id_bytes=bytes(16),
        recorded_at=0.0,
    )


def test_a_video_is_open_until_each_run_has_ended() -> None:
    videos = OpenVideos(Snapshot())
    videos.note(
        [event(1, "a", "VideoSubmitted"), event(2, "a", "RunRequested"), event(3, "a", "RunRequested")]
    )
    videos.note([event(4, "a", "RunCompleted")])
    assert list(videos) == ["a"]
    videos.note([event(5, "a", "RunFailed")])
    assert list(videos) == []
    assert videos.position == 5


def test_a_deleted_video_is_open_until_it_is_purged() -> None:
    videos = OpenVideos(Snapshot())
    videos.note([event(1, "a", "RunRequested"), event(2, "a", "RunCancelled"), event(3, "a", "VideoDeleted")])
    assert list(videos) == ["a"]
    videos.note([event(4, "a", "VideoPurged")])
    assert list(videos) == []


def test_the_video_of_an_event() -> None:
    assert video_id_of(event(1, "0199-aa", "VideoSubmitted")) == "0199-aa"


LIVES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["RunRequested", "RunCompleted", "SegmentCompleted"])),
    max_size=30,
)


@given(lives=LIVES, cut=st.integers(0, 30))
def test_a_snapshot_at_any_point_gives_the_same_counts(lives: list[tuple[str, str]], cut: int) -> None:
    events = [event(n, video_id, kind) for n, (video_id, kind) in enumerate(lives)]
    whole = OpenVideos(Snapshot())
    whole.note(events)
    first = OpenVideos(Snapshot())
    first.note(events[:cut])
    second = OpenVideos(first.snapshot())
    second.note(events[cut:])
    assert second.snapshot() == whole.snapshot()
