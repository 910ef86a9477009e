"""What all sources that are followed have in common, and how each is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from ipaddress import ip_network
from typing import Protocol

from monolith.domain.events import PUSH_KINDS
from monolith.domain.segment import SourcePosition
from monolith.ingest.addresses import AddressPolicy
from monolith.ingest.checked_http import CheckedHttp, HttpLimits
from monolith.ingest.checked_network import CheckedNetwork, Resolver, Watch, system_resolver
from monolith.ingest.errors import SourceError
from monolith.ingest.hls.source import HlsSource
from monolith.ingest.http_rules import http_url
from monolith.ingest.live_source import LiveSource
from monolith.ingest.messages import SourceAccess
from monolith.ingest.progressive import ProgressiveSource
from monolith.ingest.reader import OpenVideo
from monolith.ingest.rtsp.source import RtspSource
from monolith.ingest.web_url import UrlError, WebUrl


class FollowedSource(Protocol):
    """A connection. `container`: what carries the pictures. `live`: pictures come as they happen. `duration`:
    seconds, where it is known. `warnings`: what was passed over, in words. `lost`: pictures that came behind the last
    input, and were not handed over."""

    @property
    def container(self) -> str: ...

    @property
    def live(self) -> bool: ...

    @property
    def duration(self) -> float | None: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    @property
    def lost(self) -> int: ...

    def inputs(self) -> Generator[OpenVideo, None, None]:
        """One demuxer after another; each is to be read to its end, and closes when the next one is asked for. No more
        means that the source has come to its end.

        Raises SourceError: not permanent where the connection broke; and what the watch raises.
        """
        ...

    def close(self) -> None: ...


@contextlib.contextmanager
def open_source(
    access: SourceAccess,
    *,
    live: bool | None,
    watch: Watch,
    on_cancel: Callable[[Callable[[], None]], None],
    resolver: Resolver = system_resolver,
    behind: SourcePosition | None = None,
) -> Iterator[FollowedSource]:
    """Connect. `live`: as it was probed, None to find out. `watch`: called in every wait that we can interrupt;
    `on_cancel`: takes what ends the others; `behind`: where to begin, if that can be had. Raises SourceError, and what
    `watch` raises."""
    policy = AddressPolicy(access.loopback_only, tuple(map(ip_network, access.networks)))
    network = CheckedNetwork(policy, watch, resolver)
    source: FollowedSource
    if access.transport in PUSH_KINDS:
        source = LiveSource(access, watch)
    elif access.transport == "rtsp":
        source = RtspSource(network, _rtsp_url(access.url), access, on_cancel)
    else:
        source = _over_http(access, network, live, behind)
    with contextlib.closing(source):
        yield source


def _over_http(
    access: SourceAccess, network: CheckedNetwork, live: bool | None, behind: SourcePosition | None
) -> FollowedSource:
    url = http_url(access.url)
    http = CheckedHttp(network, url, HttpLimits(access.connect_timeout, access.read_timeout))
    try:
        if access.transport == "hls":
            return HlsSource(http, url, live=live, max_bytes=access.max_bytes, behind=behind)
        return ProgressiveSource(http, url, live=live, max_bytes=access.max_bytes)
    except BaseException:
        http.close()
        raise


def _rtsp_url(text: str) -> WebUrl:
    try:
        url = WebUrl.parse(text)
    except UrlError as error:
        raise SourceError(f"the RTSP URL cannot be used: {error}") from error
    if url.scheme not in ("rtsp", "rtsps"):
        raise SourceError(f"{url.scheme}: is not RTSP; submit an rtsp or rtsps URL")
    return url
