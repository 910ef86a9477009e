from __future__ import annotations

import pytest

from monolith.protocols.errors import ProtocolError, UnsupportedError
from monolith.protocols.rtmp.handshake import SIZE, ServerHandshake

C1 = bytes(range(256)) * 6
WHOLE = b"\x03" + C1 + bytes(SIZE)


def test_the_answer_repeats_what_the_peer_sent() -> None:
    handshake = ServerHandshake()
    answer, behind = handshake.receive(WHOLE + b"more")
    assert answer[:1] == b"\x03"
    assert answer[5:9] == bytes(4), "version 0: the simple handshake"
    assert answer[1 + SIZE :] == C1
    assert behind == b"more"
    assert handshake.done


def test_s1_differs_from_one_connection_to_the_next() -> None:
    first, second = (ServerHandshake().receive(WHOLE)[0][1 : 1 + SIZE] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("size", [1, 2, 1535, 1536, 1537, 3000])
def test_it_may_be_cut_anywhere(size: int) -> None:
    handshake, sent, behind = ServerHandshake(), [], b""
    for at in range(0, len(WHOLE), size):
        answer, rest = handshake.receive((WHOLE + b"more")[at : at + size])
        sent += [answer] * bool(answer)
        behind += rest
    assert [len(answer) for answer in sent] == [1 + 2 * SIZE]
    assert handshake.done


def test_the_answer_comes_before_the_peers_last_part() -> None:
    handshake = ServerHandshake()
    assert handshake.receive(WHOLE[:SIZE]) == (b"", b"")
    answer, _ = handshake.receive(WHOLE[SIZE : SIZE + 1])
    assert len(answer) == 1 + 2 * SIZE
    assert not handshake.done
    assert handshake.receive(bytes(SIZE)) == (b"", b"")
    assert handshake.done


def test_nothing_is_nothing() -> None:
    assert ServerHandshake().receive(b"") == (b"", b"")


def test_what_is_not_rtmp_is_refused_at_its_first_byte() -> None:
    with pytest.raises(ProtocolError, match="no RTMP: the first byte is 0x47, and must be 0x03"):
        ServerHandshake().receive(b"G")


def test_encrypted_rtmp_is_refused() -> None:
    with pytest.raises(
        UnsupportedError, match=r"encrypted RTMP \(version 6\) is not supported; publish to rtmp://"
    ):
        ServerHandshake().receive(b"\x06")
