"""Ports and their owners, certificates, keys."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from monolith.access.key_file import KeyFile
from monolith.access.scopes import Scope
from monolith.access.self_signed import keep_self_signed
from monolith.datadir import DataDirLock
from monolith.doctor import network
from monolith.doctor.findings import Finding
from monolith.settings import Settings
from tests.program import free_port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def test_the_owner_of_a_taken_port_is_named(listener: socket.socket, tmp_path: Path) -> None:
    number = listener.getsockname()[1]
    found = only(network.port(Settings(port=number, data_dir=tmp_path)))
    assert found.level == "problem"
    assert f"is taken by process {os.getpid()} (" in found.found


def test_a_free_port_and_any_port(tmp_path: Path) -> None:
    number = free_port()
    assert only(network.port(Settings(port=number, data_dir=tmp_path))).found.endswith("is free")
    assert only(network.port(Settings(port=0, data_dir=tmp_path))).level == "ok"


def test_the_port_of_our_own_server_is_no_problem(listener: socket.socket, tmp_path: Path) -> None:
    settings = Settings(port=listener.getsockname()[1], data_dir=tmp_path)
    with DataDirLock.acquire(tmp_path, settings.local_url):
        assert only(network.port(settings)).level == "ok"


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    found = only(network.port(Settings(host="192.0.2.1", port=8000, data_dir=tmp_path)))
    assert found.level == "problem" and "VIDEO_ANALYSIS_HOST" in found.help


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    assert only(network.server(Settings(data_dir=tmp_path))).found.startswith("none runs")
    with DataDirLock.acquire(tmp_path, f"http://127.0.0.1:{free_port()}"):
        found = only(network.server(Settings(data_dir=tmp_path)))
    assert found.level == "problem" and "does not answer" in found.found


def test_certificates(tmp_path: Path) -> None:
    files = keep_self_signed(tmp_path, ["localhost"])
    good = Settings(tls_certificate=str(files.certificate), tls_key=str(files.key))
    assert "is valid until" in only(network.tls(good)).found
    wrong = Settings(tls_certificate=str(files.certificate), tls_key=str(tmp_path / "none"))
    assert only(network.tls(wrong)).level == "problem"
    assert only(network.tls(Settings())).level == "ok"
    assert only(network.tls(Settings(host="0.0.0.0"))).level == "warning"


def test_keys_are_counted_never_shown(tmp_path: Path) -> None:
    beyond = Settings(host="0.0.0.0", data_dir=tmp_path)
    assert only(network.keys(beyond)).level == "problem"
    assert only(network.keys(Settings(host="0.0.0.0", data_dir=tmp_path, auth="off"))).level == "warning"
    key, record = KeyFile(beyond.keys_path).add("me", (Scope.READ,), None)
    found = only(network.keys(beyond))
    assert (found.level, found.found) == ("ok", "1 valid of 1; requests need one: yes")
    assert key not in found.found and record.key_id not in found.found
