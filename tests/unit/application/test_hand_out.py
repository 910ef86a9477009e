from __future__ import annotations

import msgspec
import pytest

from monolith.application.hand_out import HandOut, SegmentMessage
from monolith.domain.commands import FailSegment
from monolith.domain.jobs import SegmentJob, next_jobs
from monolith.domain.video import Video
from tests.builders import RUN, VIDEO, after, complete, probe, source, submit

SEGMENTS = 4
BEGUN = (submit(), probe(source(segments=SEGMENTS, frames=200)))


def failed(segment: int, attempt: int) -> FailSegment:
    return FailSegment(
        at=4.0, run_id=RUN, segment=segment, attempt=attempt, reason="r", permanent=False, attempts_allowed=3
    )


def offer(hand_out: HandOut, video: Video) -> None:
    hand_out.offer(video, [job for job in next_jobs(video) if isinstance(job, SegmentJob)])


def put_all(hand_out: HandOut) -> list[SegmentMessage]:
    messages: list[SegmentMessage] = []
    while (message := hand_out.next()) is not None:
        hand_out.put(message)
        messages.append(message)
    return messages


@pytest.fixture
def hand_out() -> HandOut:
    return HandOut(lambda: 7.0)


def test_each_open_segment_is_handed_out_once(hand_out: HandOut) -> None:
    offer(hand_out, after(*BEGUN))
    assert [(one.segment, one.after) for one in put_all(hand_out)] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    offer(hand_out, after(*BEGUN, complete(1)))
    assert put_all(hand_out) == []
    assert sorted(out.message.segment for out in hand_out.out()) == [0, 2, 3]
    assert {out.at for out in hand_out.out()} == {7.0}


def test_after_a_failed_attempt_it_is_handed_out_anew_with_another_id(hand_out: HandOut) -> None:
    offer(hand_out, after(*BEGUN))
    first = put_all(hand_out)[2]
    offer(hand_out, after(*BEGUN, failed(2, attempt=1)))
    [again] = put_all(hand_out)
    assert (again.segment, again.after) == (2, 1)
    assert again.message_id != first.message_id
    assert again.message_id == SegmentMessage(VIDEO, RUN, 2, 1).message_id


def test_what_was_lost_is_handed_out_again(hand_out: HandOut) -> None:
    video = after(*BEGUN)
    offer(hand_out, video)
    messages = put_all(hand_out)
    hand_out.lost(messages[0], attempt=0)
    hand_out.lost(messages[1], attempt=2)
    offer(hand_out, video)
    again = put_all(hand_out)
    assert again == [messages[0], SegmentMessage(VIDEO, RUN, 1, 2)]
    assert again[0].message_id == messages[0].message_id


def test_a_loss_that_is_old_news_changes_nothing(hand_out: HandOut) -> None:
    offer(hand_out, after(*BEGUN))
    first = put_all(hand_out)[0]
    offer(hand_out, after(*BEGUN, failed(0, attempt=1)))
    put_all(hand_out)
    hand_out.lost(first, attempt=1)
    assert hand_out.next() is None


def test_what_is_being_done_counts_as_put_in_when_that_was_seen() -> None:
    now = [1000.0]
    hand_out = HandOut(lambda: now[0])
    offer(hand_out, after(*BEGUN))
    first, second = put_all(hand_out)[:2]
    now[0] += 30
    hand_out.seen(first)
    hand_out.seen(msgspec.structs.replace(second, after=7))
    at = {out.message: out.at for out in hand_out.out()}
    assert (at[first], at[second]) == (1030, 1000)


def test_videos_take_turns(hand_out: HandOut) -> None:
    one = after(*BEGUN)
    assert one.submitted is not None
    two = msgspec.structs.replace(
        one, submitted=msgspec.structs.replace(one.submitted, video_id="0199aaaa-0000-7000-8000-00000000000b")
    )
    offer(hand_out, one)
    offer(hand_out, two)
    turns = [message.video_id for message in put_all(hand_out)]
    assert turns == [one.video_id, two.video_id] * SEGMENTS


def test_what_nobody_wants_any_more_is_forgotten(hand_out: HandOut) -> None:
    video = after(*BEGUN)
    offer(hand_out, video)
    messages = put_all(hand_out)
    hand_out.offer(video, [])
    assert hand_out.out() == []
    hand_out.put(messages[0])  # its confirmation came late
    assert hand_out.out() == []


def test_who_hands_out_no_more_knows_nothing_of_what_is_out(hand_out: HandOut) -> None:
    offer(hand_out, after(*BEGUN))
    put_all(hand_out)
    hand_out.forget()
    assert hand_out.out() == []
    offer(hand_out, after(*BEGUN))
    assert len(put_all(hand_out)) == SEGMENTS
