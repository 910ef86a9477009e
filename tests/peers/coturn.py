"""coturn from Debian: a STUN and TURN server."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.processes import running, until

USER, PASSWORD = "camera", "0pen-sesame"


def require_coturn() -> str:
    """Its path; the test is skipped where it is not installed."""
    path = shutil.which("turnserver")
    if path is None:
        pytest.skip("coturn is missing; install with: sudo apt-get install coturn")
    return path


@contextlib.asynccontextmanager
async def coturn(address: str, folder: Path, *, port: int = 3478) -> AsyncIterator[int]:
    """Serves on `address`, and relays from it; its port."""
    path, log = require_coturn(), folder / "coturn.log"
    flags = {
        "listening-ip": address, "listening-port": port, "relay-ip": address, "min-port": 40000,
        "max-port": 40100, "realm": "test", "user": f"{USER}:{PASSWORD}", "pidfile": folder / "coturn.pid",
        "userdb": folder / "coturn.db", "cli-ip": "127.0.0.1",
    }  # fmt: skip
    switches = ["-n", "--lt-cred-mech", "--no-cli", "--no-tls", "--no-dtls", "--log-file=stdout", "--verbose"]
    arguments = [path, *switches, *(f"--{name}={value}" for name, value in flags.items())]

    async with running(arguments, log):

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection(address, port)
            except OSError:
                return False
            writer.close()
            return True

        await until(listens, "coturn listens", log)
        yield port
