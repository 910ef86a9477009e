"""Transport streams made by hand: tables that announce what a test wants, in packets of any layout."""

from __future__ import annotations

from monolith.ingest.transport_stream import crc32

Entry = tuple[int, int] | tuple[int, int, bytes]


def section(table: int, number: int, body: bytes, *, in_force: bool = True) -> bytes:
    length = len(body) + 9
    head = bytes((table, 0xB0 | length >> 8, length & 0xFF)) + number.to_bytes(2)
    data = head + bytes((0xC0 | in_force, 0, 0)) + body
    return data + crc32(data).to_bytes(4)


def pat(programs: dict[int, int]) -> bytes:
    """Program number → PID of its map."""
    return section(0, 1, b"".join(n.to_bytes(2) + (0xE000 | pid).to_bytes(2) for n, pid in programs.items()))


def pmt(*entries: Entry, program: int = 1, in_force: bool = True) -> bytes:
    body = b"\xe1\x00\xf0\x00"
    for pid, kind, *more in entries:
        format = b"".join(bytes((5, len(name))) + name for name in more)
        body += bytes((kind,)) + (0xE000 | pid).to_bytes(2) + (0xF000 | len(format)).to_bytes(2) + format
    return section(2, program, body, in_force=in_force)


def packets(pid: int, data: bytes, size: int = 188) -> bytes:
    """A table in as many packets as it needs."""
    data = b"\x00" + data
    pieces = [data[at : at + 184] for at in range(0, len(data), 184)]
    made = b""
    for number, piece in enumerate(pieces):
        head = bytes((0x47, (0x40 if number == 0 else 0) | pid >> 8, pid & 0xFF, 0x10 | number))
        made += (head + piece).ljust(188, b"\xff") + bytes(size - 188)
    return made


def pictures(pid: int, count: int = 10, size: int = 188) -> bytes:
    return b"".join(
        bytes((0x47, pid >> 8, pid & 0xFF, 0x10)) + bytes([number] * 184) + bytes(size - 188)
        for number in range(count)
    )
