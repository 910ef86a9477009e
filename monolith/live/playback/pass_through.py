"""Whether viewers can have a publisher's packets as they are."""

from __future__ import annotations

from monolith.live.feeds import LiveFeed
from monolith.live.packets import CLOCK_RATE, LivePacket
from monolith.live.playback import h264
from monolith.live.playback.messages import OutCodec


def can_pass(feed: LiveFeed, codec: OutCodec, longest_group: float) -> bool:
    """Whether a viewer who takes `codec` can begin now with packets of `feed`: no B-frames (WebRTC has no order but
    that of decoding), and keyframes at most `longest_group` seconds apart, or on demand."""
    group = feed.newest_group
    if not group or not all(packet_passes(packet, codec) for packet in group):
        return False
    if feed.ask_keyframe is not None:
        return True
    age = (group[-1].dts - group[0].dts) / CLOCK_RATE
    return max(age, feed.group_seconds or 0.0) <= longest_group


def packet_passes(packet: LivePacket, codec: OutCodec) -> bool:
    if packet.format.codec != codec or packet.pts != packet.dts:
        return False
    return codec == "vp8" or h264.passes(packet.format)
