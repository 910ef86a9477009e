"""Coded pictures out of RTP packets that come late, twice, in another order, or not at all (RFC 3550, 4585).

Sans I/O. A state machine with three rules:
- Packets are taken in the order of their numbers. One that is missing is waited for as long as a repeat may take.
- What is missing then is lost: pictures are dropped up to the next keyframe, and a keyframe is asked for.
- A picture ends with its marker; where a sender sets none, with the first packet of the next one.

aiortc's own buffer waits for 512 more packets where one is lost (many seconds of a small picture), and gives a picture
out only when the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

REPEAT_SECONDS: Final = 0.25
"""So long a repeat of a missing packet is waited for."""
ASK_SECONDS: Final = 1.0
"""Keyframes are asked for no more often."""
PICTURE_BYTES: Final = 4 << 20
_HELD_PACKETS: Final = 1024
_RESTART: Final = 3000
"""A number that is so far away is that of a sender that began anew (RFC 3550, appendix A.1)."""
_NUMBERS: Final = 1 << 16


class RtpPacket(Protocol):
    """What is needed of one. `data`: its payload without the packetisation (RFC 6184, 7741)."""

    @property
    def sequence_number(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def marker(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class CodedPicture(NamedTuple):
    """`timestamp`: as in RTP, 32 bits. `arrived`: when it was complete, by the caller's clock."""

    data: bytes
    timestamp: int
    arrived: float


class Assembler:
    """One sender's pictures. `is_keyframe`: tells it by the data; it must be false for data that begins in mid-picture.

    `lost`: packets that never came; `broken`: pictures that were dropped for that.
    """

    def __init__(self, is_keyframe: Callable[[bytes], bool]) -> None:
        self._is_keyframe = is_keyframe
        self._next: int | None = None
        self._held: dict[int, RtpPacket] = {}
        self._missing_since: float | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._timestamp: int | None = None
        self._given: int | None = None
        self._counted: int | None = None
        self._trusts_marker = True
        self._waits_for_keyframe = True
        self._wanted = False
        self._asked_at = -ASK_SECONDS
        self.lost = 0
        self.broken = 0

    def want_keyframe(self) -> None:
        """Ask the sender for one at the next packet."""
        self._wanted = True

    def asks(self, now: float) -> bool:
        """Whether the sender is to be asked for a keyframe now. Asked again as long as none has come."""
        if not self._wanted or now - self._asked_at < ASK_SECONDS:
            return False
        self._asked_at = now
        self._wanted = False
        return True

    def add(self, packet: RtpPacket, now: float) -> Iterator[CodedPicture]:
        """Whole pictures, the first of them a keyframe. `now`: any clock that goes on, in seconds."""
        number = self._numbered(packet)
        if number is None:
            return
        self._held[number] = packet
        yield from self._in_order(now)
        if self._held:
            if self._missing_since is None:
                self._missing_since = now
            elif now - self._missing_since > REPEAT_SECONDS or len(self._held) > _HELD_PACKETS:
                self._give_up()
                yield from self._in_order(now)

    def _numbered(self, packet: RtpPacket) -> int | None:
        """Its number, never wrapped; None where it comes too late, or a second time."""
        if self._next is None:
            self._next = packet.sequence_number
        ahead = (packet.sequence_number - self._next) % _NUMBERS
        if ahead >= _NUMBERS // 2:
            ahead -= _NUMBERS
        if abs(ahead) > _RESTART:
            self._restart(packet.sequence_number)
            ahead = 0
        number = self._next + ahead
        return None if ahead < 0 or number in self._held else number

    def _restart(self, number: int) -> None:
        self._held.clear()
        self._next = number
        self._drop_to_keyframe()

    def _in_order(self, now: float) -> Iterator[CodedPicture]:
        assert self._next is not None
        while (packet := self._held.pop(self._next, None)) is not None:
            self._next += 1
            self._missing_since = None
            yield from self._take(packet, now)

    def _give_up(self) -> None:
        assert self._next is not None
        first = min(self._held)
        self.lost += first - self._next
        self._next, self._missing_since = first, None
        self._drop_to_keyframe()

    def _drop_to_keyframe(self) -> None:
        """What is lost may be a part of a picture, or a whole one that others build on."""
        if self._parts:
            self._count_broken()
        self._parts, self._size, self._timestamp = [], 0, None
        self._waits_for_keyframe = self._wanted = True

    def _count_broken(self) -> None:
        """A picture in two pieces counts once."""
        if self._timestamp != self._counted:
            self.broken += 1
            self._counted = self._timestamp

    def _take(self, packet: RtpPacket, now: float) -> Iterator[CodedPicture]:
        if self._parts and packet.timestamp != self._timestamp:
            yield from self._complete(now)
        if packet.timestamp == self._given and packet.data:
            self._trusts_marker = False  # it marks more than the last packet of a picture
        self._timestamp = packet.timestamp
        if packet.data:
            self._parts.append(packet.data)
            self._size += len(packet.data)
        if self._size > PICTURE_BYTES:
            self._drop_to_keyframe()
        elif packet.marker and self._trusts_marker and self._parts:
            yield from self._complete(now)

    def _complete(self, now: float) -> Iterator[CodedPicture]:
        assert self._timestamp is not None
        data, timestamp = b"".join(self._parts), self._timestamp
        self._parts, self._size, self._given = [], 0, timestamp
        if self._waits_for_keyframe:
            if not self._is_keyframe(data):
                self._count_broken()
                self._wanted = True
                return
            self._waits_for_keyframe = False
        yield CodedPicture(data, timestamp, now)
