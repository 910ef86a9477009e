from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from monolith.live.webrtc.assembly import ASK_SECONDS, PICTURE_BYTES, REPEAT_SECONDS, Assembler, CodedPicture

FRAME = 3000


@dataclass(frozen=True)
class Packet:
    sequence_number: int
    timestamp: int
    marker: int
    data: bytes


def is_keyframe(data: bytes) -> bool:
    return data.startswith(b"K")


def pictures(
    count: int, *, parts: int = 3, first: int = 0, keyframes: tuple[int, ...] = (0,)
) -> list[Packet]:
    """`parts` packets each; a keyframe begins with K, others with p."""
    made: list[Packet] = []
    for picture in range(count):
        kind = b"K" if picture in keyframes else b"p"
        for part in range(parts):
            data = (kind if part == 0 else b"-") + bytes((picture % 256, part))
            number = (first + len(made)) % 65536
            made.append(Packet(number, picture * FRAME, int(part == parts - 1), data))
    return made


def fed(
    assembler: Assembler, packets: list[Packet], start: float = 0.0, step: float = 0.001
) -> list[CodedPicture]:
    return [one for n, packet in enumerate(packets) for one in assembler.add(packet, start + n * step)]


def numbers(found: list[CodedPicture]) -> list[int]:
    return [one.timestamp // FRAME for one in found]


def test_a_picture_is_whole_with_its_last_packet() -> None:
    assembler = Assembler(is_keyframe)
    first, second, third = pictures(1)
    assert fed(assembler, [first, second]) == []
    (picture,) = assembler.add(third, 7.0)
    assert picture == (first.data + second.data + third.data, 0, 7.0)


def test_numbers_wrap() -> None:
    assert numbers(fed(Assembler(is_keyframe), pictures(9, first=65530))) == list(range(9))


@given(st.randoms(use_true_random=False), st.integers(0, 65535))
def test_order_and_repeats_do_not_matter(chance: random.Random, first: int) -> None:
    packets = pictures(12, first=first)
    mixed = packets[:1]
    for packet in packets[1:]:
        mixed.insert(chance.randint(max(1, len(mixed) - 4), len(mixed)), packet)
        if chance.random() < 0.3:
            mixed.append(chance.choice(mixed))
    found = fed(Assembler(is_keyframe), mixed, step=0.0)
    assert numbers(found) == list(range(12))
    assert [one.data[:1] for one in found] == [b"K"] + [b"p"] * 11


def test_a_repeat_in_time_mends_the_loss() -> None:
    assembler = Assembler(is_keyframe)
    packets = pictures(6)
    missing = packets.pop(4)
    early = fed(assembler, packets[:9], step=REPEAT_SECONDS / 20)
    assert numbers(early) == [0]
    late = fed(assembler, [missing, *packets[9:]], start=REPEAT_SECONDS / 2)
    assert numbers(late) == [1, 2, 3, 4, 5]
    assert (assembler.lost, assembler.broken) == (0, 0)


def test_after_a_loss_nothing_is_given_before_a_keyframe() -> None:
    assembler = Assembler(is_keyframe)
    packets = pictures(40, keyframes=(0, 30))
    del packets[13]
    found = fed(assembler, packets, step=REPEAT_SECONDS / 10)
    assert numbers(found) == [0, 1, 2, 3, *range(30, 40)]
    assert assembler.lost == 1
    assert assembler.broken == 30 - 4


def test_a_keyframe_is_asked_for_after_a_loss_and_again_until_it_comes() -> None:
    assembler = Assembler(is_keyframe)
    packets = pictures(300)
    del packets[13]
    asked, now = [], 0.0
    for packet in packets:
        list(assembler.add(packet, now))
        if assembler.asks(now):
            asked.append(now)
        now += 0.01
    assert len(asked) == 9, "once a second, from when the packet counts as lost"
    assert min(b - a for a, b in itertools.pairwise(asked)) >= ASK_SECONDS - 0.001


def test_one_who_begins_in_the_middle_waits_for_a_keyframe() -> None:
    assembler = Assembler(is_keyframe)
    packets = pictures(8, keyframes=(5,))[2:]
    assert numbers(fed(assembler, packets)) == [5, 6, 7]
    assert assembler.asks(0.0)


def test_what_is_wanted_is_asked_for_once() -> None:
    assembler = Assembler(is_keyframe)
    fed(assembler, pictures(2))
    assert not assembler.asks(1.0)
    assembler.want_keyframe()
    assert assembler.asks(1.1)
    assert not assembler.asks(9.0)


def test_without_markers_a_picture_ends_where_the_next_begins() -> None:
    packets = [Packet(one.sequence_number, one.timestamp, 0, one.data) for one in pictures(5)]
    assert numbers(fed(Assembler(is_keyframe), packets)) == [0, 1, 2, 3]


def test_markers_inside_pictures_are_not_gone_by_for_long() -> None:
    packets = [Packet(one.sequence_number, one.timestamp, 1, one.data) for one in pictures(5)]
    found = fed(Assembler(is_keyframe), packets)
    assert numbers(found)[-3:] == [1, 2, 3]
    assert found[-1].data == b"".join(one.data for one in packets[9:12])


def test_padding_is_no_picture() -> None:
    packets = pictures(2, parts=1)
    padding = [Packet(2, FRAME, 0, b""), Packet(3, FRAME, 0, b"")]
    after = [Packet(4, 2 * FRAME, 1, b"p")]
    assert numbers(fed(Assembler(is_keyframe), packets + padding + after)) == [0, 1, 2]


def test_a_sender_that_begins_anew_is_followed() -> None:
    assembler = Assembler(is_keyframe)
    fed(assembler, pictures(5, first=100))
    assert numbers(fed(assembler, pictures(5, first=40000))) == [0, 1, 2, 3, 4]


def test_a_picture_without_an_end_is_dropped() -> None:
    assembler = Assembler(is_keyframe)
    part = b"K" + bytes(60_000)
    endless = [Packet(n, 0, 0, part) for n in range(PICTURE_BYTES // len(part) + 2)]
    assert fed(assembler, endless) == []
    assert assembler.broken == 1
    assert assembler.asks(0.1)


@given(
    st.lists(
        st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.booleans(), st.binary(max_size=5))
    )
)
def test_any_packets_are_taken(packets: list[tuple[int, int, bool, bytes]]) -> None:
    assembler = Assembler(is_keyframe)
    found = fed(assembler, [Packet(n, t, int(m), data) for n, t, m, data in packets], step=0.01)
    assert not found or is_keyframe(found[0].data)
    assert len(assembler._held) <= len(packets)
