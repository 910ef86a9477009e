"""What peers send as SDP (RFC 8866, 8829), checked before aiortc sees it, and what our answers say beyond aiortc's."""

from __future__ import annotations

import re
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from aiortc import RTCIceCandidate
from aiortc.sdp import SessionDescription, candidate_from_sdp

OFFER_BYTES: Final = 64 << 10
_MOST: Final = {
    "m=": 16,
    "a=rtpmap:": 256,
    "a=rtcp-fb:": 1024,
    "a=ssrc:": 256,
    "a=fmtp:": 256,
    "a=extmap:": 256,
}
"""So many lines of a kind may an offer have: reading some of them takes time by the square of their number."""
_MOST_LINES: Final = 4096
_CANDIDATES: Final = 32
_PORTS: Final = range(1, 1 << 16)
_BROADCAST: Final = IPv4Address("255.255.255.255")
_DIRECTIONS: Final = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")
_OF_ICE: Final = ("a=candidate:", "a=ice-ufrag:", "a=ice-pwd:")
_OF_DTLS: Final = ("a=fingerprint:", "a=setup:")
_BUNDLE_ONLY: Final = "a=bundle-only"
_PARSER_ERRORS: Final = (
    ValueError, AssertionError, KeyError, IndexError, AttributeError, StopIteration, TypeError
)  # fmt: skip


class OfferError(Exception):
    """This is no offer, or one that breaks the rules of WebRTC."""


class NoCommonCodecError(Exception):
    """The offer is right, but holds nothing that the program takes."""


def check_offer(body: bytes) -> tuple[str, SessionDescription]:
    """The offer without the candidates that are no use, and as it was understood. Raises OfferError."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise OfferError("the offer is not UTF-8 text") from error
    if not text.startswith("v=0"):
        raise OfferError("the offer is not SDP: it begins with `v=0`")
    lines = useful_lines(text)
    _check_counts(lines)
    offer = "\r\n".join(_bundled(_with_directions(lines))) + "\r\n"
    try:
        description = SessionDescription.parse(offer)
    except _PARSER_ERRORS as error:
        raise OfferError(f"the offer is not SDP of WebRTC: {_told(error)}") from error
    if not description.media:
        raise OfferError("the offer has no media (no `m=` line)")
    for media in description.media:
        _check_media(media)
    _check_names(description)
    return offer, description


def useful_lines(text: str) -> list[str]:
    """Without candidates that cannot be asked: names (mDNS) and TCP. Such a peer reaches us, and is known from then.

    That they were all is left out too: else a peer without any would be given up at once.
    """
    candidates = 0
    kept = []
    for line in text.splitlines():
        if line.startswith("a=end-of-candidates"):
            continue
        if line.startswith("a=candidate:"):
            candidates += 1
            if candidates > _CANDIDATES or not _is_usable(line):
                continue
        kept.append(line)
    return [line for line in kept if line]


def sends_video(description: SessionDescription) -> bool:
    return any(
        media.kind == "video" and media.direction in ("sendonly", "sendrecv", None) and media.port != 0
        for media in description.media
    )


def username_of(description: SessionDescription) -> str:
    """Of the ICE session, in a checked offer."""
    ice = description.media[0].ice
    return ice.usernameFragment or "" if ice is not None else ""


def with_bitrate(answer: str, start: int, most: int) -> str:
    """`answer` with what browsers go by: else they begin with 300 kb/s and stay there for long. In kilobits a
    second."""
    hint = f"x-google-start-bitrate={start};x-google-max-bitrate={most}"
    types = re.findall(r"^a=rtpmap:(\d+) (?:VP8|H264)/90000\r?$", answer, re.MULTILINE)
    for payload_type in types:
        line = re.compile(rf"^a=fmtp:{payload_type} (.*?)(\r?)$", re.MULTILINE)
        answer, found = line.subn(rf"a=fmtp:{payload_type} \1;{hint}\2", answer, count=1)
        if not found:
            rtpmap = re.compile(rf"^(a=rtpmap:{payload_type} .*?)(\r?)$", re.MULTILINE)
            answer = rtpmap.sub(rf"\1\2\na=fmtp:{payload_type} {hint}\2", answer, count=1)
    return answer


class Fragment:
    """A trickled part (RFC 8840): `username`, `password` of the ICE session it is about, "" where it does not say."""

    def __init__(self, body: bytes) -> None:
        """Raises OfferError."""
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise OfferError("the fragment is not UTF-8 text") from error
        self.username = self.password = ""
        self.candidates: list[RTCIceCandidate] = []
        mid, line_index = None, -1
        for line in text.splitlines():
            if line.startswith("m="):
                mid, line_index = None, line_index + 1
            elif line.startswith("a=mid:"):
                mid = line[6:]
            elif line.startswith("a=ice-ufrag:"):
                self.username = line[12:]
            elif line.startswith("a=ice-pwd:"):
                self.password = line[10:]
            elif line.startswith("a=candidate:"):
                self._add(line, mid, max(0, line_index))
            elif line and not re.match(r"[a-z]=", line):
                raise OfferError(f"the fragment is not SDP: {line[:80]!r}")

    def _add(self, line: str, mid: str | None, line_index: int) -> None:
        try:
            candidate = candidate_from_sdp(line.removeprefix("a=candidate:"))
        except _PARSER_ERRORS as error:
            raise OfferError(f"not a candidate: {line[:80]!r}") from error
        if not _is_usable(line) or len(self.candidates) >= _CANDIDATES:
            return
        candidate.sdpMid = mid
        candidate.sdpMLineIndex = line_index
        self.candidates.append(candidate)


def _check_counts(lines: list[str]) -> None:
    if len(lines) > _MOST_LINES:
        raise OfferError(f"the offer has more than {_MOST_LINES} lines")
    counts = Counter(start for line in lines for start in _MOST if line.startswith(start))
    for start, most in _MOST.items():
        if counts[start] > most:
            raise OfferError(f"the offer has more than {most} lines `{start}`")


def _with_directions(lines: list[str]) -> list[str]:
    """Each part says its direction, as aiortc wants it: what the whole says where it does not, else `sendrecv` (RFC
    8866, section 6.7)."""
    made: list[str] = []
    usual, said = "a=sendrecv", True
    for line in [*lines, "m="]:
        if line.startswith("m="):
            made += [] if said else [usual]
            said = False
        elif line in _DIRECTIONS:
            usual = line if not any(one.startswith("m=") for one in made) else usual
            said = True
        made.append(line)
    return made[:-1]


def _bundled(lines: list[str]) -> list[str]:
    """Every part of a bundle (RFC 9143) with the ICE session and the candidates of its first one, as only those will be
    used: aiortc goes by those of the last. Those that are `bundle-only` say nothing of their own."""
    head, *parts = _parts(lines)
    group = next((line.split()[1:] for line in head if line.startswith("a=group:BUNDLE ")), [])
    by_mid = {line[6:]: part for part in parts for line in part if line.startswith("a=mid:")}
    first = by_mid.get(group[0]) if group else None
    if first is None:
        return lines
    way = [line for line in first if line.startswith(_OF_ICE)]
    for mid in group[1:]:
        if (part := by_mid.get(mid)) is not None and part is not first:
            part[:] = [line for line in _alive(part, first) if not line.startswith(_OF_ICE)] + way
    return [line for part in (head, *parts) for line in part]


def _alive(part: list[str], first: list[str]) -> list[str]:
    """What is `bundle-only` has port 0, and leaves out what the first part of its bundle says (RFC 9143, section 6;
    RFC 9429, section 5.2.1)."""
    if _BUNDLE_ONLY not in part:
        return part
    made = [re.sub(r"^(m=\S+) 0 ", r"\1 9 ", part[0]), *(line for line in part[1:] if line != _BUNDLE_ONLY)]
    for start in _OF_DTLS:
        if not any(line.startswith(start) for line in made):
            made += [line for line in first if line.startswith(start)]
    if not part[0].startswith("m=application") and "a=rtcp-mux" not in made:
        made.append("a=rtcp-mux")
    return made


def _parts(lines: list[str]) -> list[list[str]]:
    """The lines of the whole, and those of each `m=`."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("m="):
            found.append([])
        found[-1].append(line)
    return found


def _check_names(description: SessionDescription) -> None:
    """aiortc finds the parts of an offer by their names."""
    names = [media.rtp.muxId for media in description.media]
    if len(set(names)) < len(names):
        raise OfferError("every `m=` line of the offer needs an `a=mid` of its own")
    if sum(media.kind == "application" for media in description.media) > 1:
        raise OfferError("the offer has more than one `m=application`: one takes all data channels")
    for group in description.group:
        if group.semantic == "BUNDLE" and not set(map(str, group.items)) <= set(names):
            raise OfferError("`a=group:BUNDLE` of the offer names an `a=mid` that no `m=` line has")


def _check_media(media: object) -> None:
    kind = getattr(media, "kind", "")
    if kind not in ("audio", "video", "application"):
        raise OfferError(f"the offer has media of an unknown kind: {str(kind)[:40]!r}")
    ice, dtls = getattr(media, "ice", None), getattr(media, "dtls", None)
    if ice is None or not ice.usernameFragment or not ice.password:
        raise OfferError("the offer lacks `a=ice-ufrag` or `a=ice-pwd`")
    if dtls is None or not dtls.fingerprints:
        raise OfferError("the offer lacks `a=fingerprint` or `a=setup`: only DTLS-SRTP is taken")
    if kind != "application" and not getattr(media, "rtcp_mux", False):
        raise OfferError("the offer lacks `a=rtcp-mux`")


def _is_usable(candidate: str) -> bool:
    """Whether there may be a peer: by UDP, at an address of one host that is good beyond its link."""
    parts = candidate.split()
    if len(parts) < 8 or parts[2].lower() != "udp":
        return False
    try:
        address, port = ip_address(parts[4]), int(parts[5])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    nowhere = address.is_unspecified or address.is_multicast or address.is_link_local or address == _BROADCAST
    return port in _PORTS and not nowhere


def _told(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
