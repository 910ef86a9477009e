"""What aiortc's sender hears of its viewer, and what it keeps to send again.

The one place that reaches into aiortc's sender: it tells only an encoder of its own about lost pictures and the
viewer's network, keeps 128 packets (at 8 Mb/s 150 ms of them), and adds a random number to all times.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

from aiortc import RTCRtpSender
from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSrPacket,
    RtpPacket,
    unpack_remb_fci,
)

KEPT_PACKETS: Final = 512
"""Of each viewer, to send again: at 4 Mb/s a second of them, 600 kB."""
_RESENT_SHARE: Final = 0.25
_RESENT_AT_ONCE: Final = 100.0
"""At most a quarter as many packets are sent again as were sent, and so many at once: more would clog a narrow link."""
_AT_ONCE_SECONDS: Final = 0.005
"""What is due so soon leaves at once: sleeping costs more."""
_REPORT_SECONDS: Final = 1.0
_REPORT_PACKETS: Final = 20
_TRANSPORT: Final = "_RTCRtpSender__transport"
_HISTORY: Final = "_RTCRtpSender__rtp_history"
_TIMESTAMP: Final = "_RTCRtpSender__rtp_timestamp"


class Told(Protocol):
    """Who is told of what the viewer reports."""

    def estimated(self, bitrate: int) -> None:
        """Bits/s that the viewer thinks its link carries."""
        ...

    def reported(self, lost: float) -> None:
        """Share of the packets since the last report that never came, 0 to 1."""
        ...

    def pictures_lost(self) -> None:
        """The viewer needs a keyframe."""
        ...


class Packets(dict[int, RtpPacket]):
    """The packets sent last, in the place of aiortc's own. aiortc asks by a slot that several sequence numbers share;
    `wanted` says which of them it means."""

    def __init__(self, allow: Callable[[], None]) -> None:
        super().__init__()
        self.wanted = -1
        self._allow = allow
        self._kept: OrderedDict[int, RtpPacket] = OrderedDict()

    def __setitem__(self, slot: int, packet: RtpPacket) -> None:
        self._kept[packet.sequence_number] = packet
        if len(self._kept) > KEPT_PACKETS:
            self._kept.popitem(last=False)
        self._allow()

    def get(self, slot: int, default: Any = None) -> Any:
        return self._kept.get(self.wanted, default)

    def has(self, sequence_number: int) -> bool:
        return sequence_number in self._kept


class PacedTransport:
    """In the place of the sender's transport: packets of pictures leave no faster than `pace` (bits/s) says. Those of
    other tasks than `paced` go at once: they are few, and who sends them reads what the viewer sends."""

    def __init__(self, transport: Any, paced: asyncio.Task[Any] | None, pace: Callable[[], float]) -> None:
        self._transport = transport
        self._paced = paced
        self._pace = pace
        self._free_at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def _send_rtp(self, data: bytes) -> None:
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + len(data) * 8 / self._pace()
        if self._free_at - now > _AT_ONCE_SECONDS and asyncio.current_task() is self._paced:
            await asyncio.sleep(self._free_at - now)
        await self._transport._send_rtp(data)


class ViewerSender:
    """Listens to `sender`, from now on. `resent`: packets that were sent once more, as the viewer asked; `not_resent`:
    those that were too old, or too many."""

    def __init__(self, sender: RTCRtpSender, told: Told) -> None:
        self._sender = sender
        self._told = told
        self._packets = Packets(self._allow)
        self._allowance = 0.0
        self._report: RtcpReceiverInfo | None = None
        self._report_at = 0.0
        self._resend = sender._retransmit
        self._handle = sender._handle_rtcp_packet
        self.resent = self.not_resent = 0
        assert all(hasattr(sender, name) for name in (_HISTORY, _TIMESTAMP, _TRANSPORT)), (
            "aiortc keeps these elsewhere"
        )
        hooks: Any = sender
        setattr(hooks, _HISTORY, self._packets)
        hooks._send_keyframe = told.pictures_lost
        hooks._retransmit = self._send_again
        hooks._handle_rtcp_packet = self._hear

    def pace(self, pace: Callable[[], float]) -> None:
        """From now on; to be called by the task that sends pictures."""
        transport = getattr(self._sender, _TRANSPORT)
        if not isinstance(transport, PacedTransport):
            setattr(self._sender, _TRANSPORT, PacedTransport(transport, asyncio.current_task(), pace))

    @property
    def rtp_timestamp(self) -> int:
        """Of the picture that was sent last."""
        sent: int = getattr(self._sender, _TIMESTAMP)
        return sent

    def _allow(self) -> None:
        self._allowance = min(self._allowance + _RESENT_SHARE, _RESENT_AT_ONCE)

    async def _send_again(self, sequence_number: int) -> None:
        if not self._packets.has(sequence_number) or self._allowance < 1:
            self.not_resent += 1
            return
        self._allowance -= 1
        self.resent += 1
        self._packets.wanted = sequence_number
        await self._resend(sequence_number)

    async def _hear(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._sender._ssrc:
                    self._hear_report(report)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            self._hear_estimate(packet.fci)
            return
        await self._handle(packet)

    def _hear_report(self, report: RtcpReceiverInfo) -> None:
        """Over a second at least: browsers report with each NACK too, and what they call the share lost since the
        report before is then nearly all."""
        now = time.monotonic()
        base = self._report
        sent = report.highest_sequence - base.highest_sequence if base is not None else -1
        if base is None or sent < 0:
            self._report, self._report_at = report, now
        elif now - self._report_at >= _REPORT_SECONDS and sent >= _REPORT_PACKETS:
            self._told.reported(min(1.0, max(0, report.packets_lost - base.packets_lost) / sent))
            self._report, self._report_at = report, now

    def _hear_estimate(self, fci: bytes) -> None:
        """Other messages of applications than REMB are none of ours."""
        try:
            bitrate, sources = unpack_remb_fci(fci)
        except (ValueError, struct.error):
            return
        if self._sender._ssrc in sources:
            self._told.estimated(bitrate)
