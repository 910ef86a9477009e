"""What only the program and the receiver know: the secret that signs, and the URL, which may hold a password."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import msgspec

from monolith.frames.pack import sync_folder
from monolith.storage import plain_name


class Target(msgspec.Struct, frozen=True):
    """Where a webhook's deliveries go, whole, and what signs them."""

    url: str
    secret: str

    def __repr__(self) -> str:
        return "Target(…)"


class WebhookSecrets:
    """One file a webhook in the secrets folder, mode 0600, whole or not there. Methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        """`folder`: that all copies of the program see."""
        self._folder = folder / "secrets" / "webhooks"

    async def keep(self, webhook_id: str, target: Target) -> None:
        """On the disk when this returns."""
        await asyncio.to_thread(self._write, webhook_id, target)

    async def target_of(self, webhook_id: str) -> Target | None:
        """None where there is none, or none that can be read."""
        return await asyncio.to_thread(self._read, webhook_id)

    async def forget(self, webhook_id: str) -> None:
        await asyncio.to_thread((self._folder / plain_name(webhook_id)).unlink, missing_ok=True)

    def _read(self, webhook_id: str) -> Target | None:
        try:
            return msgspec.json.decode((self._folder / plain_name(webhook_id)).read_bytes(), type=Target)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write(self, webhook_id: str, target: Target) -> None:
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        part = self._folder / f"{uuid4()}.part"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(target))
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._folder / plain_name(webhook_id))
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self._folder)
