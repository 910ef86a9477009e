"""What systemd hears: a real datagram socket in its place."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from monolith.service_manager import ServiceManager
from monolith.settings_loading import ServiceManagerSettings, service_manager


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def heard(listening: socket.socket) -> str:
    return listening.recv(4096).decode()


def test_the_life_of_a_service(systemd: socket.socket) -> None:
    manager = ServiceManager(ServiceManagerSettings(systemd.getsockname()))
    manager.ready("serving http://127.0.0.1:8000")
    manager.stopping()
    assert heard(systemd) == "READY=1\nSTATUS=serving http://127.0.0.1:8000"
    assert heard(systemd) == "STOPPING=1\nSTATUS=ending"


def test_an_abstract_socket_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0notify-{os.getpid()}")
        ServiceManager(ServiceManagerSettings(f"@notify-{os.getpid()}")).stopping()
        listening.settimeout(60)
        assert heard(listening).startswith("STOPPING=1")


async def test_the_watchdog_is_pinged_until_cancelled(systemd: socket.socket) -> None:
    manager = ServiceManager(ServiceManagerSettings(systemd.getsockname(), watchdog_seconds=0.03))
    pinging = asyncio.create_task(manager.keep_alive())
    assert [await asyncio.to_thread(heard, systemd) for _ in range(3)] == ["WATCHDOG=1"] * 3
    pinging.cancel()
    await asyncio.wait({pinging})
    assert pinging.cancelled()


def test_without_a_service_manager_nothing_happens_and_a_dead_one_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager(ServiceManagerSettings()).ready("x")
    assert not caplog.records
    ServiceManager(ServiceManagerSettings(str(tmp_path / "gone"))).ready("x")
    assert "cannot be told 'READY=1'" in caplog.text


def test_what_systemd_sets_is_understood() -> None:
    assert service_manager({}) == ServiceManagerSettings()
    told = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert service_manager(told) == ServiceManagerSettings("/run/x", 30.0)
    assert service_manager({**told, "WATCHDOG_PID": "1"}).watchdog_seconds is None
    assert service_manager({**told, "WATCHDOG_USEC": "soon"}).watchdog_seconds is None
