"""The HTTP API as Python calls, over any httpx client: to a server, or to a program in this process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from monolith.cli.exits import CliError, Exit
from monolith.readmodels.export import Row
from monolith.readmodels.rebuilds import RebuildStatus

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_POLL_SECONDS: Final = 0.3
_ROWS_A_PAGE: Final = 2000
_TIMEOUT: Final = httpx.Timeout(30.0)
_SLOW: Final = httpx.Timeout(30.0, read=600.0)
"""For answers that come only when a large file has been stored."""

_NOT_LET_IN: Final = (401, 403, 429)
_TOO_OFTEN: Final = 429
_MOST_WAITS: Final = 5
"""So often a request that came too early is tried again."""
_LONGEST_WAIT: Final = 120.0
"""Seconds: who is to wait longer is told so instead."""
_USUAL_WAIT: Final = 5.0
"""Where the server does not say how long."""

StatusName: TypeAlias = Literal["Pending", "Processing", "Completed", "Failed"]


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe found. `duration` in seconds, `frame_rate` per second, sizes in pixels."""

    width: int
    height: int
    duration: float | None
    frame_rate: float | None


class VideoStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /analysis/{video_id}`, as far as the command line needs it. `progress`, `coverage`: 0–1; `connected`: a
    live source gives pictures now."""

    video_id: str
    video_name: str
    video_url: str
    status: StatusName
    error: str | None
    frame_step: int
    status_url: str
    frames_total: int | None
    frames_sampled: int | None
    frames_analyzed: int
    frames_dropped: int
    coverage: float | None
    progress: float | None
    media: Media | None
    live: bool = False
    connected: bool = False

    @property
    def ended(self) -> bool:
        return self.status in ("Completed", "Failed")


class AnnotatedVideo(msgspec.Struct, frozen=True, kw_only=True):
    """`/analysis/{video_id}/annotated`. `progress`: 0–1; `frames`: encoded so far; `url`: when it is ready."""

    status: Literal["queued", "running", "ready", "failed"]
    progress: float
    frames: int
    url: str | None
    error: str | None
    complete: bool | None
    size_bytes: int | None

    @property
    def ended(self) -> bool:
        return self.status in ("ready", "failed")


class _Submitted(msgspec.Struct, frozen=True):
    video_id: str


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""


class AnalysisClient:
    """Calls raise CliError with the server's own words. One that comes too early (429) waits as long as the server
    says, a few times; the log tells.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def start(self, url: str, *, name: str | None, models: Sequence[str], frame_step: int) -> str:
        """Submit a URL; the video's id."""
        body = {"videoURL": url, "modelsToRun": list(models), "frameStep": frame_step, "videoName": name}
        answer = await self._ask(
            "POST", "/analysis/start", json={k: v for k, v in body.items() if v is not None}
        )
        return _decode(answer, _Submitted).video_id

    async def upload(
        self,
        path: Path,
        *,
        name: str | None,
        models: Sequence[str],
        frame_step: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> str:
        """Send a file in pieces; the video's id. `progress`: bytes sent, bytes of the file."""
        fields: dict[str, Any] = {"modelsToRun": list(models), "frameStep": str(frame_step)}
        if name is not None:
            fields["videoName"] = name
        with path.open("rb") as file:
            watched = _WatchedFile(file, path.stat().st_size, progress)
            answer = await self._ask(
                "POST", "/analysis/upload", data=fields, files={"file": (path.name, watched)}, timeout=_SLOW
            )
        return _decode(answer, _Submitted).video_id

    async def status(self, video_id: str) -> VideoStatus:
        return _decode(await self._ask("GET", f"/analysis/{video_id}"), VideoStatus)

    async def follow(self, video_id: str) -> AsyncIterator[VideoStatus]:
        """The status again and again, the last one ended."""
        while True:
            status = await self.status(video_id)
            yield status
            if status.ended:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def rows(self, video_id: str) -> AsyncIterator[list[Row]]:
        """The rows of `/results`, page by page; a page is never empty."""
        path: str | None = f"/analysis/{video_id}/results?limit={_ROWS_A_PAGE}"
        while path is not None:
            answer = await self._ask("GET", path, timeout=_SLOW)
            rows = _decode(answer, list[Row])
            path = _next_page(answer)
            if rows:
                yield rows

    async def frame(self, video_id: str, frame_number: int) -> bytes:
        """The stored frame with what was found drawn in, a JPEG."""
        return (await self._ask("GET", f"/analysis/{video_id}/frame/{frame_number}")).content

    async def annotated_video(
        self, video_id: str, options: Sequence[tuple[str, str]] = (), *, ask: bool
    ) -> AnnotatedVideo:
        """How it is with the annotated video. `ask`: have it made, if it is not there; `options`: of the API."""
        path = f"/analysis/{video_id}/annotated"
        query = f"?{httpx.QueryParams(list(options))}" if options else ""
        return _decode(await self._ask("POST" if ask else "GET", path + query), AnnotatedVideo)

    async def part(self, url: str, first: int, size: int) -> httpx.Response:
        """`size` bytes of a file, or what is left of it, from byte `first` on; of `url` host and port do not count."""
        headers = {"Range": f"bytes={first}-{first + size - 1}"}
        return await self._ask("GET", _path_of(url), headers=headers, timeout=_SLOW)

    async def call(self, method: str, path: str, kind: type[_T], *, json: object = None) -> _T:
        """Any call that is answered with JSON."""
        return _decode(await self._ask(method, path, json=json), kind)

    async def send(self, method: str, path: str, *, json: object = None) -> None:
        """Any call whose answer says no more than that it worked."""
        await self._ask(method, path, json=json)

    async def download(self, path: str, file: BinaryIO) -> int:
        """Write an answer of any length to `file`; how many bytes. Raises OSError, too."""
        waits = _Waits()
        try:
            while True:
                async with self._http.stream("GET", path, timeout=_SLOW) as answer:
                    if answer.is_success:
                        return await _written(answer, file)
                    await answer.aread()
                if not await waits.before_another(answer):
                    raise CliError(_words(answer), _exit_for(answer))
        except httpx.TransportError as error:
            words = f"{self._http.base_url} broke off: {error or type(error).__name__}"
            raise CliError(words, Exit.ENVIRONMENT) from error

    async def cancel(self, video_id: str) -> None:
        await self._ask("POST", f"/analysis/{video_id}/cancel")

    async def start_rebuild(self, projections: Sequence[str]) -> RebuildStatus:
        """Have the named projections (none: all) built again."""
        query = "".join(f"&projection={quote(name, safe='')}" for name in projections)
        return _decode(await self._ask("POST", f"/rebuild?{query[1:]}"), RebuildStatus)

    async def rebuild_status(self) -> RebuildStatus:
        return _decode(await self._ask("GET", "/rebuild"), RebuildStatus)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        data: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout = _TIMEOUT,
    ) -> httpx.Response:
        waits = _Waits()
        while True:
            try:
                answer = await self._http.request(
                    method, path, json=json, data=data, files=files, headers=headers, timeout=timeout
                )
            except httpx.TransportError as error:
                words = f"{self._http.base_url} does not answer: {error or type(error).__name__}"
                raise CliError(words, Exit.ENVIRONMENT) from error
            if not answer.is_error:
                return answer
            if not await waits.before_another(answer):
                raise CliError(_words(answer), _exit_for(answer))


class _Waits:
    """How often one request has waited."""

    def __init__(self) -> None:
        self._done = 0

    async def before_another(self, answer: httpx.Response) -> bool:
        """Wait until `answer`, when it says that the request came too early, allows another; False: give up."""
        if answer.status_code != _TOO_OFTEN or self._done == _MOST_WAITS:
            return False
        seconds = _retry_after(answer)
        if seconds > _LONGEST_WAIT:
            return False
        self._done += 1
        logger.warning(
            "%s (waiting %.0f s, %d of at most %d times)",
            _words(answer), seconds, self._done, _MOST_WAITS,
        )  # fmt: skip
        await asyncio.sleep(seconds)
        return True


def _retry_after(answer: httpx.Response) -> float:
    """Seconds. A proxy may name a time instead (RFC 9110)."""
    text = answer.headers.get("retry-after", "")
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return _USUAL_WAIT


async def _written(answer: httpx.Response, file: BinaryIO) -> int:
    size = 0
    async for piece in answer.aiter_bytes():
        size += await asyncio.to_thread(file.write, piece)
    return size


def _exit_for(answer: httpx.Response) -> Exit:
    """A key that is missing, wrong or used too often is no fault of the video."""
    if answer.status_code in _NOT_LET_IN:
        return Exit.ENVIRONMENT
    return Exit.BAD_SOURCE if answer.is_client_error else Exit.FAILED


class _WatchedFile:
    """A file that tells how much of it was read; what httpx needs of one."""

    def __init__(self, file: BinaryIO, size: int, progress: Callable[[int, int], None] | None) -> None:
        self._file = file
        self._size = size
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if self._progress is not None:
            self._progress(self._file.tell(), self._size)
        return data

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _next_page(answer: httpx.Response) -> str | None:
    """Path and query of the page that the `Link` header names: its host may be one for the world outside."""
    url = answer.links.get("next", {}).get("url")
    return None if url is None else _path_of(url)


def _path_of(url: str) -> str:
    return httpx.URL(url).raw_path.decode("ascii")


def _decode(answer: httpx.Response, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        words = f"{answer.request.url} gave an answer that this version does not understand: {error}"
        raise CliError(words, Exit.ENVIRONMENT) from error


def _words(answer: httpx.Response) -> str:
    """The reason that the server gives."""
    try:
        detail = msgspec.json.decode(answer.content, type=_Problem).detail
    except msgspec.DecodeError:
        detail = ""
    return detail or f"the server answered {answer.status_code} {answer.reason_phrase}"
