"""Commands that publishers send, and the answers to them (RTMP 1.0, section 7; enhanced RTMP, version 2)."""

from __future__ import annotations

from typing import Final

import msgspec

from monolith.protocols.errors import ProtocolError
from monolith.protocols.flv import FOURCC
from monolith.protocols.rtmp import amf0
from monolith.protocols.rtmp.amf0 import Encodable, Value
from monolith.protocols.rtmp.limits import Limits

_CAN_DECODE: Final = 1
_MODEX: Final = 4
_LONGEST_FOURCC: Final = 4
_MOST_FOURCC: Final = 32


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """`transaction`: answers carry it; 0 where none is wanted. `target`: the command object, or None."""

    name: str
    transaction: float
    target: Value
    arguments: list[Value]

    def argument(self, index: int) -> Value:
        """None where it is missing."""
        return self.arguments[index] if index < len(self.arguments) else None


def parse(payload: bytes, limits: Limits) -> Command:
    """A command message's body in AMF 0. Raises ProtocolError."""
    reader = amf0.Reader(payload, max_string_length=limits.max_string_length, max_depth=limits.max_depth)
    name, transaction = reader.value(), reader.value()
    if not isinstance(name, str) or isinstance(transaction, bool) or not isinstance(transaction, float):
        raise ProtocolError("a command must begin with its name, a string, and its transaction, a number")
    target, *arguments = reader.rest() or [None]
    return Command(name=name, transaction=transaction, target=target, arguments=arguments)


def fourcc_of(options: dict[str, Value]) -> tuple[str, ...]:
    """Codecs that an enhanced publisher names in `connect`: a list in version 1, the keys of a map in version 2."""
    listed, mapped = options.get("fourCcList"), options.get("videoFourCcInfoMap")
    found = [*(listed if isinstance(listed, list) else ()), *(mapped if isinstance(mapped, dict) else ())]
    names = (
        name for name in found[:_MOST_FOURCC] if isinstance(name, str) and 0 < len(name) <= _LONGEST_FOURCC
    )
    return tuple(dict.fromkeys(names))


def connected(transaction: float, *, enhanced: bool) -> bytes:
    """The answer to `connect`. An enhanced publisher is told what can be decoded."""
    properties: dict[str, Encodable] = {"fmsVer": "FMS/3,0,1,123", "capabilities": 31}
    if enhanced:
        properties["capsEx"] = _MODEX
        properties["fourCcList"] = list(FOURCC)
        properties["videoFourCcInfoMap"] = dict.fromkeys(FOURCC, _CAN_DECODE)
    information: dict[str, Encodable] = {
        "level": "status",
        "code": "NetConnection.Connect.Success",
        "description": "Connection succeeded.",
        "objectEncoding": 0,
    }
    return amf0.encode("_result", transaction, properties, information)


def result(transaction: float, value: Encodable = None) -> bytes:
    return amf0.encode("_result", transaction, None, value)


def unknown(transaction: float, name: str) -> bytes:
    """The answer to a call that this server does not know."""
    information = {
        "level": "error",
        "code": "NetConnection.Call.Failed",
        "description": f"No such call: {name[:64]}",
    }
    return amf0.encode("_error", transaction, None, information)


def notice(name: str, code: str) -> bytes:
    """`onFCPublish` and `onFCUnpublish`, which some publishers wait for."""
    return amf0.encode(name, 0, None, {"level": "status", "code": code, "description": code})


def status(level: str, code: str, description: str) -> bytes:
    """An onStatus; `level`: status or error."""
    return amf0.encode("onStatus", 0, None, {"level": level, "code": code, "description": description})
