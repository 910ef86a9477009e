from __future__ import annotations

import re

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import MediaDescription
from hypothesis import given
from hypothesis import strategies as st

from monolith.live.webrtc.sdp import Fragment, OfferError, check_offer, sends_video, username_of, with_bitrate

CANDIDATE = "a=candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host"


async def offer(*kinds: str, direction: str = "sendonly") -> str:
    """Of a real peer."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        peer.addTransceiver(kind, direction)
    await peer.setLocalDescription(await peer.createOffer())
    text = peer.localDescription.sdp
    await peer.close()
    return text


async def test_an_offer_is_understood() -> None:
    text, description = check_offer((await offer("audio", "video")).encode())
    assert [media.kind for media in description.media] == ["audio", "video"]
    assert sends_video(description)
    assert f"a=ice-ufrag:{username_of(description)}\r\n" in text


async def test_what_is_bundled_goes_by_the_candidates_of_the_first() -> None:
    """A peer may have a socket for each part until it is answered, and goes on with the first one's."""
    first, second, third = re.split(r"(?=^m=)", await offer("video", "audio"), flags=re.MULTILINE)
    third = re.sub(r"(a=ice-ufrag:).*", r"\1other", third).replace(" typ host", " typ srflx")
    _, description = check_offer(f"{first}{second}{third}".encode())
    assert [kinds(media) for media in description.media] == [{"host"}, {"host"}]
    assert username_of(description) != "other"
    assert len({media.ice.usernameFragment for media in description.media if media.ice}) == 1
    _, apart = check_offer(f"{first}{second}{third}".replace("a=group:BUNDLE 0 1\r\n", "").encode())
    assert kinds(apart.media[1]) == {"srflx"}


def kinds(media: MediaDescription) -> set[str]:
    return {one.type for one in media.ice_candidates}


async def test_who_only_receives_sends_no_video() -> None:
    for text in (await offer("video", direction="recvonly"), await offer("audio")):
        assert not sends_video(check_offer(text.encode())[1])


@pytest.mark.parametrize(("of_the_whole", "sends"), [("", True), ("a=sendonly", True), ("a=recvonly", False)])
async def test_a_direction_that_is_not_said_is_that_of_the_whole_or_both(
    of_the_whole: str, sends: bool
) -> None:
    said = await offer("video", "audio")
    text = said.replace("a=sendonly\r\n", "").replace("t=0 0\r\n", f"t=0 0\r\n{of_the_whole}\r\n")
    lines, description = check_offer(text.encode())
    assert sends_video(description) is sends
    assert {media.direction for media in description.media} == {(of_the_whole or "a=sendrecv")[2:]}
    taken = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    await taken.setRemoteDescription(RTCSessionDescription(lines, "offer"))
    assert (await taken.createAnswer()).sdp
    await taken.close()


async def test_parts_need_names_of_their_own() -> None:
    text = await offer("video", "audio")
    for changed, why in (
        (text.replace("a=mid:1", "a=mid:0"), "an `a=mid` of its own"),
        (text.replace("a=mid:1\r\n", "").replace("a=mid:0\r\n", ""), "an `a=mid` of its own"),
        (text.replace("BUNDLE 0 1", "BUNDLE 7 1"), "names an `a=mid` that no `m=` line has"),
    ):
        with pytest.raises(OfferError, match=why):
            check_offer(changed.encode())


async def test_one_part_takes_all_data_channels() -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.createDataChannel("results")
    await peer.setLocalDescription(await peer.createOffer())
    text = peer.localDescription.sdp
    await peer.close()
    part = text[text.index("m=") :].replace("a=mid:0", "a=mid:1")
    assert check_offer(text.encode())
    with pytest.raises(OfferError, match="more than one `m=application`"):
        check_offer((text + part).encode())


async def test_candidates_that_cannot_be_asked_are_left_out() -> None:
    text = await offer("video")
    useless = [
        "a=candidate:2 1 udp 2113937151 5e1d7f0c-0000-4000-8000-1234567890ab.local 5000 typ host",
        "a=candidate:3 1 tcp 1518214911 192.0.2.7 9 typ host tcptype active",
        "a=candidate:4 1",
    ]
    lines, _ = check_offer((text + "\r\n".join([CANDIDATE, *useless]) + "\r\n").encode())
    assert CANDIDATE in lines
    assert not any(line in lines for line in useless)
    assert "a=end-of-candidates" not in lines


async def test_no_more_than_a_few_candidates_are_asked() -> None:
    text = await offer("video")
    many = "\r\n".join(CANDIDATE.replace("50000", str(50000 + n)) for n in range(100))
    lines, _ = check_offer((text + many + "\r\n").encode())
    assert lines.count("a=candidate:") == 32


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: "", "begins with `v=0`"),
        (lambda text: "garbage", "begins with `v=0`"),
        (lambda text: text.partition("m=")[0], "no media"),
        (lambda text: text.replace("m=video", "m=vide o"), "not SDP of WebRTC"),
        (lambda text: text.replace("m=video", "m=text"), "unknown kind"),
        (lambda text: re.sub("a=ice-pwd.*\r\n", "", text), "a=ice-pwd"),
        (lambda text: re.sub("a=fingerprint.*\r\n", "", text), "a=fingerprint"),
        (lambda text: re.sub("a=setup.*\r\n", "", text), "a=setup"),
        (lambda text: text.replace("a=setup:actpass", "a=setup:holdconn"), "not SDP of WebRTC"),
        (lambda text: text.replace("a=rtcp-mux\r\n", ""), "a=rtcp-mux"),
        (lambda text: text + "a=rtcp-fb:* nack\r\n" * 2000, "more than 1024 lines `a=rtcp-fb:`"),
        (lambda text: text + "b=AS:1\r\n" * 9000, "more than 4096 lines"),
    ],
)
async def test_what_is_wrong_is_said(change: object, why: str) -> None:
    assert callable(change)
    with pytest.raises(OfferError, match=re.escape(why)):
        check_offer(change(await offer("video")).encode())


def test_other_bytes_are_refused() -> None:
    with pytest.raises(OfferError, match="not UTF-8"):
        check_offer(b"v=0\r\n\xff\xfe")


@given(st.lists(st.tuples(st.integers(0, 40), st.text(max_size=12)), max_size=6))
def test_a_damaged_offer_is_refused_or_understood(changes: list[tuple[int, str]]) -> None:
    lines = OFFER.split("\r\n")
    for place, text in changes:
        lines[place % len(lines)] = lines[place % len(lines)][: len(text)] + text
    try:
        _, description = check_offer("\r\n".join(lines).encode("utf-8", "surrogatepass"))
    except OfferError:
        return
    assert description.media


def test_the_answer_tells_browsers_how_much_they_may_send() -> None:
    hint = "x-google-start-bitrate=2500;x-google-max-bitrate=8000"
    before = ["a=rtpmap:97 VP8/90000", "a=rtpmap:98 rtx/90000", "a=fmtp:98 apt=97", "a=rtpmap:99 H264/90000"]
    packets = "a=fmtp:99 packetization-mode=1;profile-level-id=42e01f"
    found = with_bitrate("\r\n".join([*before, packets, ""]), 2500, 8000)
    assert found.split("\r\n") == [
        before[0],
        f"a=fmtp:97 {hint}",
        *before[1:],
        f"{packets};{hint}",
        "",
    ]


def test_a_fragment_holds_candidates() -> None:
    fragment = Fragment(
        b"a=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
        + CANDIDATE.encode()
        + b"\r\na=end-of-candidates\r\nm=video 9 RTP/AVP 0\r\na=mid:v\r\n"
        + CANDIDATE.replace("udp", "tcp").encode()
        + b"\r\n"
        + CANDIDATE.replace("50000", "50001").encode()
    )
    assert (fragment.username, fragment.password) == ("EsAw", "bP+XJMM09aR8AiX1jdukzR6Y")
    found = [(one.sdpMid, one.sdpMLineIndex, one.ip, one.port) for one in fragment.candidates]
    assert found == [("0", 0, "192.0.2.7", 50000), ("v", 1, "192.0.2.7", 50001)]


@pytest.mark.parametrize("body", [b"\xff", b"garbage", b"a=candidate:1 1 udp x 192.0.2.7 y typ host"])
def test_a_fragment_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(OfferError):
        Fragment(body)


OFFER = "\r\n".join(
    """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=msid-semantic: WMS *
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host
a=ice-ufrag:EsAw
a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y
a=ice-options:trickle
a=fingerprint:sha-256 00:11
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:toffset
a=sendonly
a=msid:- track
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=ssrc-group:FID 1 2
a=ssrc:1 cname:x
a=ssrc:2 cname:x
""".splitlines()
)


@pytest.mark.parametrize(
    "where",
    [
        "169.254.169.254 80",
        "::ffff:169.254.169.254 80",
        "fe80::1 5000",
        "224.0.0.1 5000",
        "ff02::1 5000",
        "255.255.255.255 5000",
        "0.0.0.0 5000",
        "192.0.2.7 0",
        "192.0.2.7 99999",
    ],
)
async def test_nothing_is_sent_where_no_peer_can_be(where: str) -> None:
    candidate = CANDIDATE.replace("192.0.2.7 50000", where)
    lines, _ = check_offer((await offer("video") + candidate + "\r\n").encode())
    assert candidate not in lines
    assert Fragment(candidate.encode()).candidates == []


async def bundle_only(*dropped: str) -> bytes:
    """Sound, and pictures that are bundled with it or not sent at all."""
    whole, sound, pictures = re.split(r"(?=^m=)", await offer("audio", "video"), flags=re.MULTILINE)
    lines = [line for line in pictures.splitlines() if not line.startswith(dropped)]
    lines[0] = re.sub(r"^m=video \d+", "m=video 0", lines[0])
    return (whole + sound + "\r\n".join([*lines, "a=bundle-only", ""])).encode()


OF_THE_FIRST = ("a=ice-", "a=fingerprint", "a=setup", "a=rtcp-mux", "a=candidate", "a=end-of-candidates")


@pytest.mark.parametrize("dropped", [("a=end-of",), OF_THE_FIRST], ids=["repeated", "left out"])
async def test_parts_that_are_bundled_or_nothing_are_taken(dropped: tuple[str, ...]) -> None:
    lines, description = check_offer(await bundle_only(*dropped))
    assert sends_video(description)
    taken = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    await taken.setRemoteDescription(RTCSessionDescription(lines, "offer"))
    answered = (await taken.createAnswer()).sdp
    assert re.search(r"^m=video [1-9]", answered, re.MULTILINE) and "a=group:BUNDLE 0 1" in answered
    await taken.close()
