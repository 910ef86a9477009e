from __future__ import annotations

import asyncio

import pytest
from aiortc.rtp import RtpPacket

from monolith.live.playback.sender import KEPT_PACKETS, PacedTransport, Packets


def packet(number: int) -> RtpPacket:
    return RtpPacket(sequence_number=number % 65536)


def test_packets_are_found_by_their_sequence_number_though_slots_are_shared() -> None:
    packets = Packets(lambda: None)
    for number in range(300):
        packets[number % 128] = packet(number)
    packets.wanted = 5
    found = packets.get(5)
    assert found.sequence_number == 5
    packets.wanted = 133
    assert packets.get(5).sequence_number == 133
    packets.wanted = 400
    assert packets.get(400 % 128) is None


def test_no_more_packets_are_kept_than_may_be() -> None:
    packets = Packets(lambda: None)
    for number in range(65_000, 65_000 + 2 * KEPT_PACKETS):
        packets[number % 128] = packet(number)
    kept = [number for number in range(65536) if packets.has(number)]
    assert len(kept) == KEPT_PACKETS
    assert packets.has((65_000 + 2 * KEPT_PACKETS - 1) % 65536)


def test_each_packet_that_is_sent_allows_for_more_to_be_sent_again() -> None:
    allowed = []
    packets = Packets(lambda: allowed.append(1))
    packets[0] = packet(0)
    packets[1] = packet(1)
    assert len(allowed) == 2


class Transport:
    state = "connected"

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def _send_rtp(self, data: bytes) -> None:
        self.sent.append(data)


@pytest.mark.parametrize("paced", [True, False])
async def test_packets_of_pictures_wait_for_their_turn_and_others_do_not(paced: bool) -> None:
    transport = Transport()
    task = asyncio.current_task() if paced else None
    through = PacedTransport(transport, task, lambda: 1e6)
    sent_before: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: sent_before.append(len(transport.sent)))
    for number in range(3):
        await through._send_rtp(bytes([number]) * 1250)
    assert sent_before == ([0] if paced else [])
    assert [data[0] for data in transport.sent] == [0, 1, 2]
    assert through.state == "connected"
