from __future__ import annotations

import pytest

from monolith.protocols.errors import ProtocolError
from monolith.protocols.rtmp import commands
from monolith.protocols.rtmp.amf0 import Value
from monolith.protocols.rtmp.commands import Command
from monolith.protocols.rtmp.limits import Limits
from tests.peers.rtmp_publisher import amf, parse_amf

LIMITS = Limits(max_string_length=20, max_depth=3)


def test_a_command_has_a_name_a_transaction_a_target_and_arguments() -> None:
    found = commands.parse(amf("publish", 5, None, "key", "live"), LIMITS)
    assert found == Command(name="publish", transaction=5, target=None, arguments=["key", "live"])
    assert [found.argument(index) for index in range(3)] == ["key", "live", None]


def test_a_command_may_end_behind_its_transaction() -> None:
    assert commands.parse(amf("x", 1), LIMITS) == Command(name="x", transaction=1, target=None, arguments=[])


@pytest.mark.parametrize("payload", [amf(1, 1), amf("x", "y"), amf("x", True), amf("x", None)])
def test_a_command_must_begin_with_name_and_transaction(payload: bytes) -> None:
    with pytest.raises(
        ProtocolError, match="a command must begin with its name, a string, and its transaction, a number"
    ):
        commands.parse(payload, LIMITS)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "AMF data ends"),
        (amf("x"), "AMF data ends"),
        (amf("x" * 21, 1), "longer than 20"),
        (amf("x", 1, [[[1]]]), "deeper than 3"),
    ],
)
def test_a_command_has_limits(payload: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        commands.parse(payload, LIMITS)


@pytest.mark.parametrize(
    ("options", "fourcc"),
    [
        ({}, ()),
        ({"fourCcList": ["hvc1", "av01", "hvc1"]}, ("hvc1", "av01")),
        ({"fourCcList": ["*"], "videoFourCcInfoMap": {"vp09": 4.0}}, ("*", "vp09")),
        ({"fourCcList": "hvc1", "videoFourCcInfoMap": [1.0]}, ()),
        ({"fourCcList": [1.0, "", "longer", None, "avc1"]}, ("avc1",)),
    ],
)
def test_codecs_that_a_publisher_names(options: dict[str, Value], fourcc: tuple[str, ...]) -> None:
    assert commands.fourcc_of(options) == fourcc


def test_no_more_than_a_few_codecs_are_looked_at() -> None:
    assert len(commands.fourcc_of({"fourCcList": [f"{number:04}" for number in range(1000)]})) == 32


def test_an_enhanced_publisher_learns_what_is_decoded() -> None:
    _, _, plain, information = parse_amf(commands.connected(1, enhanced=False))
    _, _, enhanced, _ = parse_amf(commands.connected(1, enhanced=True))
    assert information["code"] == "NetConnection.Connect.Success"
    assert "fourCcList" not in plain
    assert enhanced["fourCcList"] == ["avc1", "hvc1", "av01", "vp09", "vp08"]
    assert set(enhanced["videoFourCcInfoMap"]) == set(enhanced["fourCcList"])


def test_names_that_come_back_in_answers_are_cut() -> None:
    *_, information = parse_amf(commands.unknown(3, "x" * 1000))
    assert information["description"] == "No such call: " + "x" * 64
