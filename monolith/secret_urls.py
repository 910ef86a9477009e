"""URLs that carry a password or a token: whole in a file that only this user reads, redacted everywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Set
from pathlib import Path
from uuid import uuid4

from monolith.frames.pack import sync_folder
from monolith.storage import is_untouched, plain_name

_PART = ".part"


class SecretUrls:
    """The `Secrets` port: one file a video, mode 0600, whole or not there. Methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "secrets"

    async def keep_url(self, video_id: str, url: str) -> None:
        """The URL of a new video, on the disk when this returns. One that is kept already stays."""
        await asyncio.to_thread(self._write, video_id, url)

    async def url_of(self, video_id: str) -> str | None:
        return await asyncio.to_thread(self._read, video_id)

    async def forget(self, video_id: str) -> None:
        await asyncio.to_thread((self._folder / plain_name(video_id)).unlink, missing_ok=True)

    async def forget_all_but(self, video_ids: Set[str], *, untouched_for: float = 0.0) -> None:
        """Remove the URLs of other videos, and what an interrupted write has left, if they were written so many seconds
        ago. Folders hold other secrets."""
        await asyncio.to_thread(self._remove_all_but, video_ids, untouched_for)

    def _read(self, video_id: str) -> str | None:
        try:
            return (self._folder / plain_name(video_id)).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _write(self, video_id: str, url: str) -> None:
        """A link gives the finished file its name: unlike a rename it replaces nothing."""
        path = self._folder / plain_name(video_id)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        part = self._folder / f"{uuid4()}{_PART}"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(url)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(part)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self._folder)

    def _remove_all_but(self, video_ids: Set[str], untouched_for: float) -> None:
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in video_ids and not path.is_dir() and is_untouched(path, untouched_for):
                    path.unlink(missing_ok=True)
