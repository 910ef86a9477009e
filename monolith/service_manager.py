"""Tells systemd how the service is (`Type=notify`): one datagram a message, to the socket that it names.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

from monolith.settings_loading import ServiceManagerSettings

_PINGS_A_PERIOD: Final = 3
"""A ping may be late without harm."""

logger = logging.getLogger(__name__)


class ServiceManager:
    """Without a socket every call does nothing. Nothing raises: a service manager that is gone ends no service."""

    def __init__(self, settings: ServiceManagerSettings) -> None:
        self._address = settings.socket
        self._watchdog_seconds = settings.watchdog_seconds

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=ending")

    async def keep_alive(self) -> None:
        """Ping the watchdog, if there is one, until cancelled: from the event loop, since that is what may hang."""
        while self._watchdog_seconds is not None:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / _PINGS_A_PERIOD)
        await asyncio.Event().wait()

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as one:
                one.sendto(message.encode(), address)
        except OSError as error:
            logger.warning("the service manager cannot be told %r: %s", message.splitlines()[0], error)
