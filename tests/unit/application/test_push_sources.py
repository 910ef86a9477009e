"""Who may publish, who does, and what is left of it for those who follow."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.application.push_sources import PushSources, UnknownSecretError, VideoOverError
from monolith.domain.commands import FailVideo
from monolith.domain.errors import NotPossibleError
from monolith.live.feeds import READER_SECONDS, FeedBusyError, LiveReader
from tests.pushed import FRAME, Pushed, packet


@pytest.fixture
def pushed(tmp_path: Path) -> Pushed:
    return Pushed(tmp_path)


async def numbers(reader: LiveReader | None) -> list[int]:
    assert reader is not None
    async with asyncio.timeout(60), reader:
        return [one.pts // FRAME async for one in reader]


async def test_the_secret_is_the_only_way_in_and_stands_in_no_event(pushed: Pushed, tmp_path: Path) -> None:
    first, second = await pushed.endpoint(), await pushed.endpoint()
    assert first.secret != second.secret and len(first.secret) == 52
    assert await pushed.sources.authorize("rtmp", first.secret) == first.video_id
    told = str(await pushed.store.read_all(limit=100))
    kept = (tmp_path / "secrets" / first.video_id).read_text()
    assert first.secret not in told and kept not in told
    assert stat.S_IMODE((tmp_path / "secrets" / first.video_id).stat().st_mode) == 0o600
    video = (await pushed.load(first.video_id)).submitted
    assert video is not None and (video.source_kind, video.video_url) == ("rtmp", "rtmp:live")


async def test_a_wrong_secret_is_refused_whatever_is_wrong_with_it(pushed: Pushed) -> None:
    made, other = await pushed.endpoint(), await pushed.endpoint()
    mixed = made.secret[:22] + other.secret[22:]
    for wrong in (
        mixed,
        "",
        "x",
        made.secret[:-1],
        made.secret + "A",
        "é" * 52,
        made.secret.replace("A", "%"),
    ):
        if wrong != made.secret:
            with pytest.raises(UnknownSecretError):
                await pushed.sources.authorize("rtmp", wrong)
    with pytest.raises(UnknownSecretError, match="not one for WebRTC"):
        await pushed.sources.authorize("webrtc", made.secret)


@given(secret=st.text(max_size=80))
def test_no_text_is_taken_for_a_secret(secret: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pushed = Pushed(tmp_path_factory.getbasetemp())
    with pytest.raises(UnknownSecretError):
        asyncio.run(pushed.sources.authorize("rtmp", secret))


async def test_a_video_that_is_over_takes_no_more(pushed: Pushed) -> None:
    made = await pushed.endpoint()
    await pushed.streams.execute(made.video_id, FailVideo(at=1.0, reason="no room"))
    with pytest.raises(VideoOverError, match="has ended; ask for a new endpoint"):
        await pushed.sources.authorize("rtmp", made.secret)
    gone = await pushed.endpoint()
    await pushed.handlers.delete(gone.video_id)
    with pytest.raises(VideoOverError, match="was deleted"):
        await pushed.sources.authorize("rtmp", gone.secret)


async def test_a_repeat_gives_the_first_secret_until_it_is_gone(pushed: Pushed) -> None:
    first, again = await pushed.endpoint(key="k"), await pushed.endpoint(key="k")
    assert (first.secret, first.video_id) == (again.secret, again.video_id)
    assert (first.submitted.repeated, again.submitted.repeated) == (False, True)
    with pytest.raises(NotPossibleError, match="different submission"):
        await pushed.endpoint("webrtc", key="k")
    await pushed.secrets.forget(first.video_id)
    with pytest.raises(NotPossibleError, match="use a new key"):
        await pushed.endpoint(key="k")


async def test_one_publisher_at_a_time(pushed: Pushed) -> None:
    sources = pushed.sources
    async with sources.publisher("v"):
        with pytest.raises(FeedBusyError):
            async with sources.publisher("v"):
                pass
    async with sources.publisher("v") as feed:
        assert not feed.ended
    assert (feed.ended, feed.reason) == (True, "the publisher's connection broke")


async def test_an_end_in_order_gives_no_reason(pushed: Pushed) -> None:
    async with pushed.sources.publisher("v") as feed:
        feed.end()
    assert feed.reason == ""


async def test_who_follows_first_gets_all_from_the_first_packet_on(pushed: Pushed) -> None:
    sources = pushed.sources
    async with sources.publisher("v") as feed:
        for number in range(20):
            feed.publish(packet(number, keyframe=number % 10 == 0))
        looking = sources.read("v", look=True)
        following = sources.read("v", look=False)
        later = sources.read("v", look=False)
        feed.end()
    assert await numbers(looking) == list(range(10, 20))
    assert await numbers(following) == list(range(20))
    assert await numbers(later) == list(range(10, 20))


async def test_what_waited_too_long_is_passed_over(pushed: Pushed) -> None:
    many = int(READER_SECONDS * 25) + 60
    async with pushed.sources.publisher("v") as feed:
        for number in range(many):
            feed.publish(packet(number, keyframe=number % 50 == 0))
        following = pushed.sources.read("v", look=False)
        feed.end()
    newest = (many - 1) // 50 * 50
    assert await numbers(following) == list(range(newest, many))
    assert following is not None and following.take_lost() == newest


async def test_what_nobody_followed_before_the_publisher_came_again_was_missed(pushed: Pushed) -> None:
    sources = pushed.sources
    for count in (20, 30):
        async with sources.publisher("v") as feed:
            for number in range(count):
                feed.publish(packet(number, keyframe=number == 5))
    async with sources.publisher("v") as feed:
        feed.publish(packet(0, keyframe=True))
        first = sources.read("v", look=False)
        feed.publish(packet(1))
        again = sources.read("v", look=False)
        feed.end()
    assert await numbers(first) == [0, 1] and await numbers(again) == [0, 1]
    assert first is not None and first.take_lost() == 15 + 25
    assert again is not None and again.take_lost() == 0


async def test_who_sent_no_picture_is_not_followed(pushed: Pushed) -> None:
    async with pushed.sources.publisher("v") as feed:
        feed.end()
    assert not await pushed.sources.wait("v", 0)
    assert pushed.sources.read("v", look=False) is None


async def test_what_a_publisher_left_can_be_followed_once(pushed: Pushed) -> None:
    sources = pushed.sources
    async with sources.publisher("v") as feed:
        feed.publish(packet(0, keyframe=True))
        feed.end()
    assert await sources.wait("v", 0)
    assert await numbers(sources.read("v", look=True)) == [0]
    assert await numbers(sources.read("v", look=False)) == [0]
    assert not await sources.wait("v", 0) and sources.read("v", look=False) is None


async def test_waiting_ends_with_a_publisher_or_in_time(pushed: Pushed) -> None:
    sources = pushed.sources
    waiting = asyncio.create_task(sources.wait("v", 30))
    assert not await sources.wait("v", 0.01)
    async with asyncio.timeout(60), sources.publisher("v") as feed:
        feed.publish(packet(0))
        assert not await sources.wait("v", 0.01)  # no keyframe, no picture
        assert sources.read("v", look=True) is None
        feed.publish(packet(1, keyframe=True))
        assert await waiting
        assert await sources.wait("v", 0)
        assert not sources.give_up("v")
        assert await sources.wait("v", 0)  # it is still there
    assert not sources.give_up("v")
    assert await sources.wait("v", 0)  # it may have been our decoder that failed
    assert not sources.give_up("v"), "its connection broke: it may come again"
    assert not await sources.wait("v", 0)
    assert sources_are_quiet(sources)


@pytest.mark.parametrize("pictures", [0, 3])
async def test_pictures_that_nobody_can_decode_are_the_last_ones_of_who_ended_in_order(
    pushed: Pushed, pictures: int
) -> None:
    sources = pushed.sources
    async with sources.publisher("v") as feed:
        for number in range(pictures):
            feed.publish(packet(number, keyframe=number == 0))
        feed.end()
    assert [sources.give_up("v"), sources.give_up("v")] == [False, pictures > 0]
    assert not await sources.wait("v", 0)


async def test_a_video_that_is_over_sends_its_publisher_away(pushed: Pushed) -> None:
    made = await pushed.endpoint()
    pushed.sources.note(await pushed.load(made.video_id))
    async with pushed.sources.publisher(made.video_id) as feed:
        pushed.sources.note(await pushed.load(made.video_id))
        assert not feed.dismissed.is_set()
        await pushed.handlers.cancel(made.video_id)
        pushed.sources.note(await pushed.load(made.video_id))
        assert feed.dismissed.is_set() and "has ended" in feed.dismissal
    assert (feed.reason, await pushed.sources.wait(made.video_id, 0)) == ("", False)


def sources_are_quiet(sources: PushSources) -> bool:
    return not sources._waiting and not sources._publications and len(sources.feeds) == 0
