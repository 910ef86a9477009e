"""Values of settings as people write them: sizes, times, lists, addresses."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

Network: TypeAlias = IPv4Network | IPv6Network

_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
                 "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_size(value: object) -> object:
    """`"20 GiB"`, `"500MB"`, `"1024"` → bytes; anything else is left for the validator to refuse."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _UNITS:
        return value
    return int(float(match[1]) * _UNITS[match[2].lower()])


def split(value: object) -> object:
    """What commas separate."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def lower(value: object) -> object:
    """Words count whatever their case."""
    return value.strip().lower() if isinstance(value, str) else value


Size: TypeAlias = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=1024)]


_ICE_SERVER: Final = re.compile(
    r"(stun|turns?):(\[[0-9A-Fa-f:.]+\]|[^\s\[\]?@/:]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?"
)


class IceServerAddress(NamedTuple):
    """`scheme`: stun, turn, turns. `transport`: between us and the server."""

    scheme: str
    host: str
    port: int
    transport: str


def ice_server_address(uri: str) -> IceServerAddress:
    """Of a STUN or TURN server (RFC 7064, 7065). Raises ValueError."""
    match = _ICE_SERVER.fullmatch(uri)
    if match is None:
        raise ValueError(f"not a STUN or TURN server: {uri!r}")
    scheme, host, port, transport = match.groups()
    usual_port, usual_transport = (5349, "tcp") if scheme == "turns" else (3478, "udp")
    found = IceServerAddress(scheme, host.strip("[]"), int(port or usual_port), transport or usual_transport)
    if not 0 < found.port <= 65535 or (scheme, transport) in _NO_TRANSPORT:
        raise ValueError(f"not a port, or not a transport of this scheme: {uri!r}")
    return found


_NO_TRANSPORT: Final = {("stun", "udp"), ("stun", "tcp"), ("turns", "udp")}


def rtmp_base_url(url: str) -> str:
    """Without a slash at its end. Raises ValueError."""
    parts = urlsplit(url.rstrip("/"))
    scheme, host, extra = parts.scheme in ("rtmp", "rtmps"), parts.hostname, parts.path + parts.query
    if not scheme or not host or extra or parts.fragment or "@" in url or parts.port == 0:
        raise ValueError("not an address of RTMP, without a path")
    return url.rstrip("/")


def amqp_url(url: str) -> str:
    """Raises ValueError, also for what stands for itself in a password (`@`, `/`, `#` …): it would be read as something
    else, and shown."""
    parts = urlsplit(url)
    whole = parts.scheme in ("amqp", "amqps") and parts.hostname and not parts.fragment
    if not whole or parts.netloc.count("@") > 1 or "@" in parts.path + parts.query or parts.port == 0:
        raise ValueError("not an address of RabbitMQ")
    return url


def is_loopback(host: str) -> bool:
    """An address, or `localhost`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_at(scheme: str, host: str, port: int) -> str:
    """Where programs on this machine reach what listens on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"{scheme}://[{reached}]:{port}" if ":" in reached else f"{scheme}://{reached}:{port}"
