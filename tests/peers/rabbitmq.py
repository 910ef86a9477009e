"""The real RabbitMQ from Debian, with a node name, ports and a folder of its own; it can be killed and come again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import aio_pika
import pytest

from tests.program import free_port

_LIBRARY: Final = Path("/usr/lib/rabbitmq/bin")
_CONFIGURATION: Final = """\
listeners.tcp.default = 127.0.0.1:{port}
loopback_users = none
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
"""


class RabbitMq:
    """One broker. `url`: of the virtual host `/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._name = f"test-{uuid4().hex[:8]}@localhost"
        self._epmd, self._distribution = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._mapper: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def virtual_host(self) -> str:
        """The address of a new, empty virtual host."""
        name = f"test-{uuid4().hex[:8]}"
        host, user, all_of_it = f'<<"{name}">>', '<<"guest">>', '<<".*">>'
        self.ask(
            f"rabbit_vhost:add({host}, {user}), rabbit_auth_backend_internal:set_permissions("
            f"{user}, {host}, {all_of_it}, {all_of_it}, {all_of_it}, {user})."
        )
        return f"{self.url}{name}"

    def ask(self, expression: str) -> str:
        """What the broker makes of an Erlang expression."""
        command = [str(_LIBRARY / "rabbitmqctl"), "--node", self._name, "eval", expression]
        answer = subprocess.run(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr.decode()
        return answer.stdout.decode()

    @property
    def output(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Returns at once; see `until_ready`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self._port))
        (self._folder / "plugins").write_text("[].")
        with (self._folder / "log").open("ab") as log:
            if self._mapper is None:  # or the broker would start one that stays behind
                self._mapper = subprocess.Popen(
                    ["epmd", "-port", str(self._epmd), "-address", "127.0.0.1"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            self._process = subprocess.Popen(
                [_LIBRARY / "rabbitmq-server"],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }

    async def until_ready(self, timeout: float = 120) -> None:
        """Until it takes connections. Raises TimeoutError with the end of the log."""
        assert self._process is not None
        try:
            async with asyncio.timeout(timeout):
                while self._process.poll() is None:
                    if _listens(self._port) and await self._answers():
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pass
        raise TimeoutError(f"RabbitMQ was not ready:\n{self.output[-3000:]}")

    async def _answers(self) -> bool:
        """It listens before it does."""
        try:
            connection = await aio_pika.connect(self.url)
        except (OSError, aio_pika.exceptions.AMQPError):
            return False
        await connection.close()
        return True

    def signal(self, number: signal.Signals) -> None:
        """To all that it started."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL to all that it started, and wait for the end."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cpu_seconds(self) -> float:
        """Processor time of all that it started and that still runs."""
        assert self._process is not None
        return sum(_cpu_seconds(one, self._process.pid) for one in Path("/proc").glob("[0-9]*"))

    def close(self) -> None:
        """The end of it."""
        self.kill()
        assert self._mapper is not None
        self._mapper.kill()
        self._mapper.wait()


def _cpu_seconds(process: Path, group: int) -> float:
    """Of a process of the group; 0 for others, and for one that has ended."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    ticks = sum(map(int, fields[11:13])) if int(fields[2]) == group else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def rabbitmq(folder: Path) -> Iterator[RabbitMq]:
    """A broker, ready. Skips the test where the package is not installed."""
    if not (_LIBRARY / "rabbitmq-server").exists() or shutil.which("erl") is None:
        pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
    broker = RabbitMq(folder)
    broker.start()
    try:
        asyncio.run(broker.until_ready())
        yield broker
    finally:
        broker.close()
