"""An RTSP source: FFmpeg's client, through a `Relay`, to an address that was checked."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator
from typing import Final
from urllib.parse import quote

import av
import av.error
from av.container import InputContainer

from monolith.ingest.addresses import ForbiddenAddressError
from monolith.ingest.checked_network import CheckedNetwork, WatchedSocket
from monolith.ingest.errors import SourceError
from monolith.ingest.http_rules import connect_error, name_error
from monolith.ingest.media import opened
from monolith.ingest.messages import SourceAccess
from monolith.ingest.reader import LIMITS, OpenVideo, pixel_option
from monolith.ingest.rtsp.relay import Relay, RelayReport
from monolith.ingest.tls import verifying_context
from monolith.ingest.web_url import UrlError, WebUrl

_MOST_REDIRECTS: Final = 5
_UNSUPPORTED_TRANSPORT: Final = 461
_NEARLY: Final = 0.95
"""Of the read timeout: FFmpeg's clock and ours differ, and its error codes do not always tell."""
_NOT_FOR_GOOD: Final = frozenset({408, 413, 453, 455})
"""Refusals below 500 that may be others soon: timeout, too large just now, not enough bandwidth, wrong state."""
_REFUSALS: Final = {
    401: "the server does not accept the user name and password of the URL",
    403: "the server does not allow these pictures to be seen",
    404: "the server has nothing under this path",
    454: "the server does not know the session",
    461: "the server does not send by this transport: set the other one (VIDEO_ANALYSIS_RTSP_TRANSPORT)",
}

OnCancel = Callable[[Callable[[], None]], None]
"""Called with what is to be done, by another thread, when the request is cancelled."""


class RtspSource:
    """A `FollowedSource`: always live."""

    container = "rtsp"
    live = True
    duration = None
    lost = 0
    warnings: tuple[str, ...] = ()

    def __init__(
        self, network: CheckedNetwork, url: WebUrl, access: SourceAccess, on_cancel: OnCancel
    ) -> None:
        self._network = network
        self._first = url
        self._access = access
        self._relay: Relay | None = None
        on_cancel(self._end)

    def _end(self) -> None:
        if self._relay is not None:
            self._relay.end()

    def inputs(self) -> Generator[OpenVideo, None, None]:
        """One. Raises SourceError. A redirect in its midst breaks the connection: the next one asks the submitted URL
        where the pictures are now, and what it answers is checked as ever."""
        with self._connected() as video:
            yield video
        assert self._relay is not None
        self._relay.close()
        self._network.watch()
        report = self._relay.report
        if report.fault is not None:
            raise report.fault
        if report.redirect is not None:
            raise SourceError("the server ended the session with a redirect", permanent=False)
        if video.failure is not None or (report.server_closed and not report.goodbye):
            raise SourceError(self._why_ended(report, video.failure), permanent=False)

    def close(self) -> None:
        if self._relay is not None:
            self._relay.close()

    def _connected(self) -> OpenVideo:
        """By the first transport that the server takes. Raises SourceError."""
        wanted = self._access.rtsp_transport
        if wanted != "auto":
            return self._followed(wanted)
        try:
            return self._followed("tcp")
        except _TransportError:
            return self._followed("udp")

    def _followed(self, transport: str) -> OpenVideo:
        """Where the redirects lead. Raises SourceError."""
        url = self._first
        for _ in range(_MOST_REDIRECTS + 1):
            self._relay = relay = self._relay_to(url)
            try:
                return opened(self._opened(relay, url, transport), live=True)
            except av.error.FFmpegError as error:
                relay.close()
                self._network.watch()
                if relay.report.redirect is None:
                    raise self._refused(relay.report, url, error) from error
                url = self._redirected(url, relay.report.redirect)
            except BaseException:
                relay.close()
                raise
        raise SourceError(f"more than {_MOST_REDIRECTS} redirects")

    def _relay_to(self, url: WebUrl) -> Relay:
        """Raises SourceError."""
        try:
            relay = Relay(self._server(url))
        except ForbiddenAddressError as error:
            raise SourceError(str(error)) from error
        except socket.gaierror as error:
            raise name_error(error) from error
        except TimeoutError as error:
            raise SourceError("the server did not take the connection in time", permanent=False) from error
        except OSError as error:
            raise connect_error(error) from error
        relay.start()
        return relay

    def _server(self, url: WebUrl) -> WatchedSocket:
        timeout = self._access.connect_timeout
        connection = self._network.connect(url.host, url.port, timeout)
        try:
            if url.scheme == "rtsps":
                connection.start_tls(verifying_context(), url.host, timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _opened(self, relay: Relay, url: WebUrl, transport: str) -> InputContainer:
        """Raises av.error.FFmpegError. Its text has the URL, and is not to be shown."""
        silence = self._access.read_timeout
        options = {
            "rtsp_transport": transport,
            "rtsp_flags": "filter_src",
            "allowed_media_types": "video",
            "timeout": str(round(silence * 1_000_000)),
            "protocol_whitelist": "tcp,udp,rtp,rtsp",
            "format_whitelist": "rtsp",
            "max_pixels": pixel_option(LIMITS),
            "analyzeduration": "2000000",
            "fpsprobesize": "0",
        }
        credentials = self._credentials(url)
        return av.open(
            f"rtsp://{credentials}127.0.0.1:{relay.port}{url.target}",
            "r",
            options=options,
            metadata_errors="replace",
            timeout=(self._access.connect_timeout + 2 * silence, silence),
        )

    def _credentials(self, url: WebUrl) -> str:
        """For the URL that FFmpeg gets; for the first origin alone."""
        first = self._first
        if url.origin != first.origin or not first.has_credentials:
            return ""
        return f"{quote(first.username, '')}:{quote(first.password, '')}@"

    def _redirected(self, url: WebUrl, location: str) -> WebUrl:
        """Raises SourceError."""
        try:
            target = url.joined(location)
        except UrlError as error:
            raise SourceError(f"the redirect is refused: {error}") from error
        if target.scheme not in ("rtsp", "rtsps"):
            raise SourceError(f"the redirect is refused: {target.scheme}: is not RTSP")
        if url.scheme == "rtsps" and target.scheme == "rtsp":
            raise SourceError("the redirect is refused: it leads away from TLS")
        return target

    def _refused(self, report: RelayReport, url: WebUrl, error: av.error.FFmpegError) -> SourceError:
        """Why there is no session."""
        if report.fault is not None:
            return report.fault
        if report.refusal is None:
            return SourceError(self._why_ended(report, error), permanent=False)
        status, phrase = report.refusal
        said = f"({status} {phrase})" if phrase else f"({status})"
        permanent = status < 500 and status not in _NOT_FOR_GOOD
        if status == _UNSUPPORTED_TRANSPORT:
            return _TransportError(f"{_REFUSALS[status]} {said}", permanent=True)
        if status == 401 and not self._credentials(url):
            return SourceError(
                f"the server wants a user name and a password {said}: submit rtsp://user:password@host/path"
            )
        return SourceError(f"{_REFUSALS.get(status, 'the server refuses')} {said}", permanent=permanent)

    def _why_ended(self, report: RelayReport, error: av.error.FFmpegError | None) -> str:
        if report.server_closed:
            return "the server closed the connection"
        silent = time.monotonic() - report.heard_at >= self._access.read_timeout * _NEARLY
        if silent or isinstance(error, av.error.TimeoutError | av.error.ExitError):
            return f"the server sent nothing for {self._access.read_timeout:g} s"
        return f"the connection broke: {(error.strerror if error else None) or 'no reason is known'}"


class _TransportError(SourceError):
    """The server does not take the transport."""
