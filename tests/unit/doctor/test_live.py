"""RTMP and UDP ports, interfaces, STUN and TURN servers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from monolith.datadir import DataDirLock
from monolith.doctor import live
from monolith.doctor.findings import Finding
from monolith.settings import Settings
from tests.peers.coturn import PASSWORD, USER, coturn
from tests.program import free_port


def settings(**values: object) -> Settings:
    return Settings.model_validate(values)


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def test_a_taken_port_of_rtmp_and_a_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = only(live.rtmp_port(settings(rtmp_port=port, data_dir=tmp_path)))
        assert found.level == "problem" and f"is taken by process {os.getpid()}" in found.found
        assert "VIDEO_ANALYSIS_RTMP_PORT" in found.help
        with DataDirLock.acquire(tmp_path, "http://127.0.0.1:8000"):
            assert only(live.rtmp_port(settings(rtmp_port=port, data_dir=tmp_path))).level == "ok"
    assert only(live.rtmp_port(settings(rtmp_port=free_port(), data_dir=tmp_path))).found.endswith("is free")
    assert only(live.rtmp_port(settings(rtmp=False))).found == "off (VIDEO_ANALYSIS_RTMP)"


def test_rtmp_on_loopback_beside_http_for_others(tmp_path: Path) -> None:
    behind = {"public_url": "https://video.example.org", "rtmp_port": 0, "data_dir": tmp_path}
    _, found = live.rtmp_port(settings(**behind))
    assert found.level == "warning" and "VIDEO_ANALYSIS_RTMP_HOST" in found.help
    tunnel = settings(**behind, rtmp_public_url="rtmp://video.example.org")
    assert only(live.rtmp_port(tunnel)).level == "ok"


def test_where_peers_reach_this_machine() -> None:
    found = only(live.webrtc_addresses(settings(ice_interfaces="127.0.0.1")))
    assert (found.level, found.found) == ("ok", "peers are told 127.0.0.1")
    found = only(live.webrtc_addresses(settings(ice_interfaces="eth9")))
    assert found.level == "problem" and "eth9" in found.found
    told, ports = live.webrtc_addresses(
        settings(ice_interfaces="127.0.0.1", ice_public_address="203.0.113.7")
    )
    assert told.found == "peers are told 203.0.113.7, 127.0.0.1"
    assert ports.level == "warning" and "VIDEO_ANALYSIS_ICE_PORTS" in ports.help


def test_ports_that_are_left() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        _, found = live.webrtc_addresses(settings(ice_interfaces="127.0.0.1", ice_ports=f"{port}-{port}"))
        assert found.level == "warning" and found.found == f"of UDP ports {port} to {port}, 0 are free"


async def test_servers_are_asked(tmp_path: Path) -> None:
    async with coturn("127.0.0.1", tmp_path, port=free_port()) as port:
        stun, turn = f"stun:127.0.0.1:{port}", f"turn:127.0.0.1:{port}"
        right = settings(ice_servers=f"{stun},{turn}", ice_username=USER, ice_credential=PASSWORD)
        found = await asyncio.to_thread(lambda: list(live.ice_servers(right)))
        assert [one.found for one in found] == [f"{uri} gives 127.0.0.1" for uri in (stun, turn)]
        wrong = settings(ice_servers=turn, ice_username=USER, ice_credential="guess")
        (told,) = await asyncio.to_thread(lambda: list(live.ice_servers(wrong)))
        assert told.level == "problem" and "401" in told.found and "guess" not in told.found


@pytest.mark.parametrize("uri", ["stun:127.0.0.1:9", "turn:127.0.0.1:9?transport=tcp"])
def test_a_server_that_is_not_there(uri: str) -> None:
    found = only(live.ice_servers(settings(ice_servers=uri)))
    assert found.level == "problem" and found.found.startswith(f"{uri} gives no address")
