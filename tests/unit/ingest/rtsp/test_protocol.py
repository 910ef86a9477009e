from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monolith.ingest.rtsp.protocol import MAX_BODY_BYTES, Frame, Item, Message, RtspError, RtspParser

RESPONSE = b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nTransport: RTP/AVP;unicast\r\nContent-Length: 3\r\n\r\nabc"
REQUEST = b"GET_PARAMETER rtsp://a/b RTSP/1.0\r\nCSeq: 4\r\n\r\n"
FRAME = b"$\x01\x00\x04\r\n\r\n"


def byte_by_byte(data: bytes) -> list[Item]:
    parser = RtspParser()
    return [item for index in range(len(data)) for item in parser.feed(data[index : index + 1])]


def test_messages_and_frames_fed_whole_and_byte_by_byte() -> None:
    data = RESPONSE + FRAME + b"\r\n" + REQUEST + FRAME
    response, frame, request, last = RtspParser().feed(data)
    assert isinstance(response, Message) and isinstance(request, Message)
    assert (response.status, response.reason, response.method) == (200, "OK", None)
    assert (response.header("transport"), response.body) == ("RTP/AVP;unicast", b"abc")
    assert (request.method, request.status, request.header("nothing")) == ("GET_PARAMETER", None, None)
    assert frame == last == Frame(FRAME)
    assert byte_by_byte(data) == [response, frame, request, last]


def test_what_is_not_whole_waits() -> None:
    for data in (RESPONSE, FRAME, REQUEST):
        assert RtspParser().feed(data[:-1]) == []


def test_a_header_is_replaced() -> None:
    (message,) = RtspParser().feed(RESPONSE)
    assert isinstance(message, Message)
    changed = message.with_header("TRANSPORT", "x")
    assert [value for name, value in changed.headers if name.lower() == "transport"] == ["x"]
    assert RtspParser().feed(changed.encode()) == [changed]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "neither a request nor a status line"),
        (b"\x00\x01\x02\r\n\r\n", "neither a request nor a status line"),
        (b"RTSP/1.0 200 OK\r\nno colon\r\n\r\n", "a header is malformed"),
        (b"RTSP/1.0 200 OK\r\nA: b\nC: d\r\n\r\n", "a header is malformed"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n", "the length of a message"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\nContent-length: 2\r\n\r\n", "the length of a message"),
        (
            f"RTSP/1.0 200 OK\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode(),
            "the length of a message",
        ),
        (b"RTSP/1.0 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", "more than 200 headers"),
        (b"RTSP/1.0 200 OK\r\n" + b"A" * 70_000, "bytes of headers"),
        (b"\r\n" * 100, "nothing but blank lines"),
    ],
)
def test_what_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(RtspError, match=told):
        RtspParser().feed(data)
    with pytest.raises(RtspError, match=told):
        byte_by_byte(data)


def test_phrases_are_harmless() -> None:
    (message,) = RtspParser().feed(b"RTSP/1.0 404 Not\x1b[31m Found" + b"x" * 100 + b"\r\n\r\n")
    assert isinstance(message, Message)
    assert message.reason.isprintable() and len(message.reason) <= 80


def rtcp(*kinds: int) -> Frame:
    packets = b"".join(bytes((0x80, kind, 0, 1)) + b"\x00" * 4 for kind in kinds)
    return Frame(b"$\x01" + len(packets).to_bytes(2) + packets)


def test_goodbyes() -> None:
    assert rtcp(200, 202, 203).says_goodbye
    assert not rtcp(200, 202).says_goodbye
    assert not rtcp(96, 203).says_goodbye
    assert not Frame(b"$\x01\x00\x00").says_goodbye
    assert not Frame(b"$\x01\x00\x02\x80\xcb").says_goodbye


names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True).filter(
    lambda n: n.lower() != "content-length"
)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
messages = st.builds(
    lambda line, headers, body: Message(line, (*headers, ("Content-Length", str(len(body)))), body),
    st.sampled_from(["RTSP/1.0 200 OK", "RTSP/2.0 301", "OPTIONS * RTSP/1.0", "SETUP rtsp://a/b RTSP/1.0"]),
    st.lists(st.tuples(names, values), max_size=5).map(tuple),
    st.binary(max_size=200),
)
frames = st.binary(max_size=300).map(lambda payload: Frame(b"$\x00" + len(payload).to_bytes(2) + payload))


@given(st.lists(messages | frames, max_size=6), st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_what_was_encoded_comes_back_however_it_is_cut(items: list[Item], sizes: list[int]) -> None:
    data = b"".join(item.encode() if isinstance(item, Message) else item.data for item in items)
    parser, found, at = RtspParser(), [], 0
    while at < len(data):
        for size in sizes:
            found += parser.feed(data[at : at + size])
            at += size
    assert found == items
