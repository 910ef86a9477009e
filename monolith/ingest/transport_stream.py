"""An MPEG transport stream (ISO/IEC 13818-1) cut where its video changes to another codec or another PID.

FFmpeg's demuxer goes on with the stream that it has found first, and its decoder with the codec of that one: what comes
after a change would be damaged, or missed without a word. So each part between two changes gets a demuxer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_SYNC: Final = 0x47
_PACKET: Final = 188
_SIZES: Final = (188, 192, 204)
"""From one sync byte to the next: plain, with a time code (M2TS), with error correction."""
_PROOF: Final = 5
"""So many sync bytes where they should be prove a layout."""
_PAT_PID: Final = 0
_PAT_TABLE, _PMT_TABLE = 0x00, 0x02
_LONGEST_SECTION: Final = 1024
_REGISTRATION: Final = 0x05
_PRIVATE: Final = 0x06
_VIDEO_TYPES: Final = frozenset({0x01, 0x02, 0x10, 0x1B, 0x21, 0x24, 0x33, 0x42, 0xD1, 0xEA})
"""`stream_type` of MPEG-1, MPEG-2, MPEG-4, H.264, JPEG 2000, HEVC, VVC, AVS, Dirac, VC-1."""
_VIDEO_FORMATS: Final = frozenset({b"AV01", b"HEVC", b"VC-1", b"drac"})
"""What the registration descriptor of private data says that is video."""


class VideoEntry(NamedTuple):
    """A video stream in a program's map. `format`: of its registration descriptor, where the type says too little."""

    pid: int
    stream_type: int
    format: bytes = b""


class TransportParts:
    """The bytes that `read` gives, part after part; what is no transport stream is one part. Nothing is left out, and
    each further part begins with the tables that announce its video.

    `chosen`: the PID that is decoded, once it is known: then changes of other streams are none. `given`: bytes so far,
    of all parts.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = read
        self._tables = _Tables()
        self._rest = bytearray()
        self._ready = bytearray()
        self._size = 0
        self._foreign = self._changed = self._ended = False
        self.chosen: int | None = None
        self.given = 0

    def read(self, size: int) -> bytes:
        """1…`size` bytes of the part; b"" at its end. Raises what `read` of the source raises."""
        while not (self._ready or self._changed or self._ended):
            data = self._source(size)
            self._ended = not data
            self._rest += data
            if self._ended or self._foreign:
                self._pass(len(self._rest))
            else:
                self._scan()
        piece = bytes(self._ready[:size])
        del self._ready[:size]
        self.given += len(piece)
        return piece

    def next_part(self) -> bool:
        """Whether the part ended because another one begins, which is the one that is read from now on."""
        if not self._changed or self._ready:
            return False
        self._changed, self.chosen = False, None
        self._scan()
        return True

    def _pass(self, count: int) -> None:
        self._ready += self._rest[:count]
        del self._rest[:count]

    def _scan(self) -> None:
        """Pass on whole packets, up to a change."""
        while not self._changed and (self._size or self._synchronised()):
            if (packets := len(self._rest) // self._size) == 0:
                return
            self._take(packets)

    def _synchronised(self) -> bool:
        """Find the packets, and pass on what is before them."""
        while len(self._rest) >= _PROOF * _SIZES[-1]:
            head = np.frombuffer(bytes(self._rest[: _PROOF * _SIZES[-1]]), np.uint8) == _SYNC
            for size in _SIZES:
                columns = head[: _PROOF * size].reshape(_PROOF, size).all(axis=0)
                if columns.any():
                    self._size = size
                    self._pass(int(columns.argmax()))
                    return True
            self._foreign = not self._tables.seen
            self._pass(len(self._rest) if self._foreign else _PACKET)
        return False

    def _take(self, packets: int) -> None:
        """Pass on those that are in step, up to a change."""
        rows = np.frombuffer(bytes(self._rest[: packets * self._size]), np.uint8).reshape(packets, -1)
        stray = np.flatnonzero(rows[:, 0] != _SYNC)
        count = int(stray[0]) if stray.size else packets
        pids = rows[:count, 1].astype(np.int64) % 32 * 256 + rows[:count, 2]
        at = _first_of(pids, self._tables.pids, 0)
        while at is not None:
            if self._tables.add(rows[at].tobytes(), int(pids[at]), self.chosen):
                return self._cut(at)
            at = _first_of(pids, self._tables.pids, at + 1)
        self._pass(count * self._size)
        if stray.size:
            self._size = 0

    def _cut(self, at: int) -> None:
        """The packet at index `at` ends the table that announces another video."""
        self._pass(at * self._size)
        del self._rest[: self._size]
        self._rest[:0] = self._tables.announcement()
        self._changed = True


class _Tables:
    """The program tables as they come: which PIDs carry them (`pids`), and which video they announce. `seen`: there was
    one."""

    def __init__(self) -> None:
        self.pids: frozenset[int] = frozenset({_PAT_PID})
        self.seen = False
        self._sections: dict[int, _Section] = {}
        self._programs: dict[tuple[int, int], frozenset[VideoEntry]] = {}
        self._of_part: frozenset[VideoEntry] = frozenset()
        self._pat: Sequence[bytes] = ()
        self._pmt: Sequence[bytes] = ()

    def add(self, packet: bytes, pid: int, chosen: int | None) -> bool:
        """Whether `packet` ends a table by which the video of this part is no longer there, but another one."""
        section = self._sections.setdefault(pid, _Section())
        table = section.add(packet)
        if table is None or len(table) < 12 or not table[5] & 1:  # not yet in force
            return False
        if pid == _PAT_PID and table[0] == _PAT_TABLE and table[7] == 0:
            self._pat = section.packets
            self._list_programs(table)
        elif pid != _PAT_PID and table[0] == _PMT_TABLE:
            self._pmt = section.packets
            self._programs[pid, int.from_bytes(table[3:5])] = video_of(table)
            return self._is_other_video(chosen)
        return False

    def announcement(self) -> bytes:
        """The packets of the tables that were added last."""
        return b"".join((*self._pat, *self._pmt))

    def _list_programs(self, table: bytes) -> None:
        places = range(8, len(table) - 7, 4)
        listed = {
            (int.from_bytes(table[at + 2 : at + 4]) & 0x1FFF, int.from_bytes(table[at : at + 2]))
            for at in places
        }
        self.seen = True
        self.pids = frozenset({_PAT_PID, *(pid for pid, number in listed if number)})
        self._programs = {key: video for key, video in self._programs.items() if key in listed}

    def _is_other_video(self, chosen: int | None) -> bool:
        announced: frozenset[VideoEntry] = frozenset().union(*self._programs.values())
        if not announced:
            return False
        wanted = {entry for entry in self._of_part if entry.pid == chosen} or self._of_part
        self._of_part = announced
        return not wanted <= announced


class _Section:
    """Puts a table together from its packets."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self._data: bytearray | None = None

    def add(self, packet: bytes) -> bytes | None:
        """The table, if `packet` is the last of it and it is intact."""
        payload = _payload(packet)
        if packet[1] & 0x40:  # a table begins, behind the rest of the one before
            self.packets, self._data = [], bytearray()
            payload = payload[1 + payload[0] :] if payload else b""
        if self._data is None:
            return None
        self.packets = [*self.packets, packet]
        self._data += payload
        length = 3 + (int.from_bytes(self._data[1:3]) & 0xFFF) if len(self._data) >= 3 else _LONGEST_SECTION
        if length > len(self._data) and len(self._data) < _LONGEST_SECTION:
            return None
        table, self._data = bytes(self._data[:length]), None
        return table if crc32(table) == 0 else None


def _payload(packet: bytes) -> bytes:
    """b"" for a packet without one, or with errors."""
    start = 5 + packet[4] if packet[3] & 0x20 else 4
    usable = packet[3] & 0x10 and not packet[1] & 0x80
    return packet[start:_PACKET] if usable else b""


def video_of(table: bytes) -> frozenset[VideoEntry]:
    """The video streams that a program map section lists; what is cut short is left out."""
    found: set[VideoEntry] = set()
    at, end = 12 + (int.from_bytes(table[10:12]) & 0xFFF), len(table) - 4
    while at + 5 <= end:
        kind, pid = table[at], int.from_bytes(table[at + 1 : at + 3]) & 0x1FFF
        length = int.from_bytes(table[at + 3 : at + 5]) & 0xFFF
        name = _registered(table[at + 5 : min(at + 5 + length, end)])
        if kind in _VIDEO_TYPES:
            found.add(VideoEntry(pid, kind))
        elif kind == _PRIVATE and name in _VIDEO_FORMATS:
            found.add(VideoEntry(pid, kind, name))
        at += 5 + length
    return frozenset(found)


def _registered(descriptors: bytes) -> bytes:
    """What a registration descriptor among them names; b"" without."""
    at = 0
    while at + 2 <= len(descriptors):
        if descriptors[at] == _REGISTRATION:
            return descriptors[at + 2 : at + 6]
        at += 2 + descriptors[at + 1]
    return b""


def _first_of(pids: npt.NDArray[np.int64], wanted: frozenset[int], start: int) -> int | None:
    """The first index from `start` on."""
    found = np.flatnonzero(np.isin(pids[start:], list(wanted)))
    return start + int(found[0]) if found.size else None


def crc32(data: bytes) -> int:
    """As ISO/IEC 13818-1, annex A, has it: 0 over a section with its check sum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC_TABLE[crc >> 24 ^ byte]
    return crc


def _crc_of(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
    return crc


_CRC_TABLE: Final = tuple(_crc_of(byte) for byte in range(256))
