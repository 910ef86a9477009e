"""How sources that are followed are reached: the whole URL, with its secrets, and what may be connected to for it."""

from __future__ import annotations

import msgspec

from monolith.application.ports import Handover, Secrets
from monolith.domain.events import PUSH_KINDS, Transport, VideoSubmitted
from monolith.ingest.messages import FeedAccess, SourceAccess


class SourceAccesses:
    """`template`: everything but the URL and its transport, from the settings."""

    def __init__(self, secrets: Secrets, template: SourceAccess, handover: Handover) -> None:
        self._secrets = secrets
        self._handover = handover
        self._template = template

    async def url_of(self, video: VideoSubmitted) -> str:
        """The URL as it was submitted."""
        return await self._secrets.url_of(video.video_id) or video.location

    async def of(self, video: VideoSubmitted, transport: Transport, *, look: bool = False) -> SourceAccess:
        """`look`: to see what comes, not yet to follow it."""
        if transport in PUSH_KINDS:
            address, token = self._handover.invite(video.video_id, look=look)
            return msgspec.structs.replace(self._template, url=address, token=token, transport=transport)
        return msgspec.structs.replace(self._template, url=await self.url_of(video), transport=transport)

    def feed(self, video_id: str) -> FeedAccess:
        """Where a decoder brings what it reads of a live source, for those who watch."""
        return FeedAccess(*self._handover.accept(video_id))
