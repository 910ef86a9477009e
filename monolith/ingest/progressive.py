"""A video that is read as it arrives in the answer to one HTTP request: MPEG-TS, FLV and the like, endless or not."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from monolith.ingest.checked_http import WHOLE, CheckedHttp, HttpBody
from monolith.ingest.errors import SourceError
from monolith.ingest.media import STREAMABLE, inputs_of
from monolith.ingest.reader import OpenVideo
from monolith.ingest.transport import is_multipart
from monolith.ingest.web_url import WebUrl

_MULTIPART: Final = "mpjpeg"


class ProgressiveSource:
    """A `FollowedSource`. Live where the answer says no length."""

    container = "http"
    duration = None
    lost = 0
    warnings: tuple[str, ...] = ()

    def __init__(self, http: CheckedHttp, url: WebUrl, *, live: bool | None, max_bytes: int) -> None:
        """`live`: as it was probed (None: find out). `max_bytes`: of a source that is not live. Raises SourceError."""
        self._http = http
        self._max_bytes = max_bytes
        self._received = 0
        self._body = HttpBody(http, url, WHOLE, may_be_endless=live is not False)
        self._body.open()
        if live is False and self._body.length is None:
            raise SourceError("the server named a length when it was asked first, and names none now")
        self.live = self._body.length is None if live is None else live

    def inputs(self) -> Generator[OpenVideo, None, None]:
        demuxer = _MULTIPART if is_multipart(self._body.content_type) else None
        return inputs_of(self._read, STREAMABLE, live=self.live, demuxer=demuxer)

    def _read(self, size: int) -> bytes:
        data = self._body.read(size)
        self._received += len(data)
        if not self.live and self._received > self._max_bytes:
            limit = f"{self._max_bytes} bytes (VIDEO_ANALYSIS_MAX_SOURCE_BYTES)"
            raise SourceError(f"the video has more bytes than the limit of {limit}")
        return data

    def close(self) -> None:
        self._body.close()
        self._http.close()
