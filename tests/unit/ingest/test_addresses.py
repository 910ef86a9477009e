from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network

import httpcore
import pytest

from monolith.ingest.addresses import (
    Address,
    AddressPolicy,
    CheckedBackend,
    ForbiddenAddressError,
    resolve,
    unwrapped,
)

ALONE = AddressPolicy(loopback_only=True)
SERVING = AddressPolicy(loopback_only=False)

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"]
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1",
    "198.18.0.1", "fd00::1", "fc00::1", "2001:db8::1", "3fff::1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%1", "100.100.100.200", "168.63.129.16", "fd00:ec2::254",
    "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "64:ff9b:1::a00:1",
]  # fmt: skip


def _allowed(policy: AddressPolicy, address: str) -> bool:
    try:
        policy.check(ip_address(address), "host")
    except ForbiddenAddressError:
        return False
    return True


def _wrapped(address: str) -> list[str]:
    """An IPv4 address in all the forms that reach it over IPv6."""
    number = int(ip_address(address))
    high, low = number >> 16, number & 0xFFFF
    inverted = number ^ 0xFFFFFFFF
    return [
        f"::ffff:{address}",
        f"::ffff:0:{address}",
        f"::{address}",
        f"64:ff9b::{address}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:808:808:0:0:{inverted >> 16:x}:{inverted & 0xFFFF:x}",
    ]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_always(address: str) -> None:
    assert _allowed(ALONE, address)
    assert _allowed(SERVING, address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_allowed_while_serving_on_loopback_alone(address: str) -> None:
    assert _allowed(ALONE, address)
    assert not _allowed(SERVING, address)


@pytest.mark.parametrize("address", NEVER)
def test_link_local_and_special_addresses_are_never_allowed_by_default(address: str) -> None:
    assert not _allowed(ALONE, address)
    assert not _allowed(SERVING, address)


@pytest.mark.parametrize("address", _wrapped("10.0.0.1") + _wrapped("127.0.0.1"))
def test_a_private_address_inside_another_is_private(address: str) -> None:
    assert not _allowed(SERVING, address)


@pytest.mark.parametrize("address", _wrapped("169.254.169.254"))
def test_the_metadata_service_inside_another_address_is_never_allowed(address: str) -> None:
    assert not _allowed(ALONE, address)


def test_teredo_carries_two_addresses_and_both_count() -> None:
    teredo = ip_address("2001:0:a00:1:0:0:f7f7:f7f7")  # server 10.0.0.1, client 8.8.8.8
    assert unwrapped(teredo) == (ip_address("10.0.0.1"), ip_address("8.8.8.8"))
    assert not _allowed(SERVING, str(teredo))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "169.254.1.1"])
def test_named_networks_are_allowed_besides_public_addresses(address: str) -> None:
    named = AddressPolicy(
        loopback_only=False, networks=(ip_network("10.1.0.0/16"), ip_network("169.254.1.1/32"))
    )
    assert _allowed(named, address)
    assert _allowed(named, "8.8.8.8")
    assert not _allowed(named, "10.2.0.1")
    assert not _allowed(named, "169.254.169.254")


def test_the_refusal_says_what_is_wrong_and_what_would_allow_it() -> None:
    with pytest.raises(ForbiddenAddressError) as caught:
        SERVING.check(ip_address("64:ff9b::10.0.0.1"), "video.example.org")
    assert str(caught.value) == (
        "video.example.org is at 64:ff9b::a00:1 (inside it 10.0.0.1), which is not a public address; videos may not "
        "be fetched from there (VIDEO_ANALYSIS_ALLOWED_NETWORKS names networks that are allowed besides public ones)"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost"])
async def test_every_spelling_of_loopback_is_seen(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        await CheckedBackend(SERVING).connect_tcp(host, 9, timeout=5)


async def test_it_connects_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers differently the second time (DNS rebinding) is asked only once."""
    answers = iter([(ip_address("127.0.0.1"),), (ip_address("10.0.0.1"),)])
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> tuple[Address, ...]:
        asked.append(host)
        return next(answers)

    monkeypatch.setattr("monolith.ingest.addresses.resolve", rebinding)
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await CheckedBackend(ALONE).connect_tcp("rebind.test", server.getsockname()[1], timeout=5)
        assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
        await stream.aclose()
    assert asked == ["rebind.test"]


async def test_one_forbidden_address_of_a_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mixed(host: str, port: int) -> tuple[Address, ...]:
        return ip_address("8.8.8.8"), ip_address("10.0.0.1")

    monkeypatch.setattr("monolith.ingest.addresses.resolve", mixed)
    with pytest.raises(ForbiddenAddressError, match=r"^mixed\.test is at 10\.0\.0\.1, which is not a public"):
        await CheckedBackend(SERVING).connect_tcp("mixed.test", 80, timeout=5)


async def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def two(host: str, port: int) -> tuple[Address, ...]:
        return ip_address("127.0.0.2"), ip_address("127.0.0.1")

    monkeypatch.setattr("monolith.ingest.addresses.resolve", two)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stream = await CheckedBackend(ALONE).connect_tcp("two.test", port, timeout=5)
        await stream.aclose()
    with pytest.raises(httpcore.ConnectError):
        await CheckedBackend(ALONE).connect_tcp("two.test", port, timeout=5)


async def test_names_resolve_without_repeats() -> None:
    assert ip_address("127.0.0.1") in await resolve("localhost", 80)
    assert await resolve("192.0.2.1", 80) == (ip_address("192.0.2.1"),)
