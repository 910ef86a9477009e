from __future__ import annotations

from ipaddress import ip_address

import pytest

from monolith.ingest.rtsp.transport_header import MulticastError, pinned

PEER = ip_address("10.1.2.3")


@pytest.mark.parametrize(
    ("transport", "expected"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=0-1", "RTP/AVP/TCP;unicast;interleaved=0-1;source=10.1.2.3"),
        (
            "RTP/AVP;unicast;client_port=1-2;server_port=3-4;source=6.6.6.6;destination=7.7.7.7;ssrc=1",
            "RTP/AVP;unicast;client_port=1-2;server_port=3-4;ssrc=1;source=10.1.2.3",
        ),
        ("RTP/AVP; unicast; Source=6.6.6.6", "RTP/AVP;unicast;source=10.1.2.3"),
        ('RTP/AVP;src_addr="6.6.6.6:5"/"6.6.6.6:6"', "RTP/AVP;source=10.1.2.3"),
        ("a;b,c;source=x", "a;b;source=10.1.2.3,c;source=10.1.2.3"),
        ("", "source=10.1.2.3"),
    ],
)
def test_the_checked_address_is_the_only_one(transport: str, expected: str) -> None:
    assert pinned(transport, PEER) == expected


@pytest.mark.parametrize(
    "transport",
    ["RTP/AVP;multicast;destination=239.0.0.1", "RTP/AVP;port=5000-5001", "RTP/AVP;unicast, x;TTL=3"],
)
def test_multicast_is_refused(transport: str) -> None:
    with pytest.raises(MulticastError):
        pinned(transport, PEER)
