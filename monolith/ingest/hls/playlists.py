"""The playlists of an HLS source as they are read: the right variant, and the segments that are to be taken from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from monolith.domain.segment import SourcePosition
from monolith.ingest.checked_http import CheckedHttp
from monolith.ingest.checked_network import pause
from monolith.ingest.errors import SourceError
from monolith.ingest.hls.places import is_at
from monolith.ingest.hls.playlist import (
    MAX_PLAYLIST_BYTES,
    MasterPlaylist,
    MediaPlaylist,
    MediaSegment,
    Playlist,
    PlaylistError,
    Variant,
    parse_playlist,
)
from monolith.ingest.http_rules import FetchError, TryLaterError, joined_url
from monolith.ingest.web_url import WebUrl

_TALLEST: Final = 1080
_LEAST_RELOAD_SECONDS: Final = 0.5
_LONGEST_BACKLOG: Final = 60.0
"""Seconds of media that are caught up with after a break; where there is more, what is newest is wanted."""
_SILENT_TARGETS: Final = 3
"""A live playlist that names nothing new for so many target durations, or for the read timeout, is silent."""


class Playlists:
    """Reads the playlist behind `url`, by way of a master playlist or not. `first`: as it was found;
    `missed`: segments that were gone before their turn; `restarts`: how often its numbers began anew."""

    def __init__(self, http: CheckedHttp, url: WebUrl) -> None:
        """Raises SourceError."""
        self._http = http
        self._url = url
        self.missed = 0
        self.restarts = 0
        playlist, self._base = self._load()
        if isinstance(playlist, MasterPlaylist):
            self._url = self.resolved("a playlist", best_variant(playlist).uri)
            playlist, self._base = self._load()
        if not isinstance(playlist, MediaPlaylist):
            raise SourceError(
                "the playlist names playlists that name playlists: submit one that names segments"
            )
        self.first = self._newest = playlist

    def _load(self) -> tuple[Playlist, WebUrl]:
        try:
            return self._read()
        except PlaylistError as error:
            raise SourceError(f"the HLS playlist cannot be read: {error}") from error

    def _read(self) -> tuple[Playlist, WebUrl]:
        """Raises SourceError, PlaylistError."""
        data, final = self._http.read_whole(self._url, MAX_PLAYLIST_BYTES)
        return parse_playlist(data), final

    def resolved(self, what: str, uri: str) -> WebUrl:
        """Where `uri`, found in the newest playlist, leads. Raises FetchError, which names `what` it is for."""
        try:
            return joined_url(self._base, uri)
        except FetchError as error:
            raise FetchError(f"{what} of the playlist is refused: {error.reason}", permanent=True) from error

    def whole(self) -> Iterator[MediaSegment]:
        """All segments of a source that has an end."""
        return (segment for segment in self.first.segments if not segment.gap)

    def listed_after(self, segment: MediaSegment) -> float:
        """Seconds of media that the newest playlist names behind `segment`."""
        return sum(one.duration for one in self._newest.segments if one.sequence > segment.sequence)

    def live(self, behind: SourcePosition | None = None) -> Iterator[MediaSegment]:
        """The newest segment and all that come after it; but from that of `behind` on, as long as it is listed and not
        too far back. Raises SourceError (not permanent) when none come for long."""
        playlist = self.first
        awaited = first_live(playlist, behind)
        loaded = changed = time.monotonic()
        while True:
            for segment in (fresh := [s for s in playlist.segments if s.sequence >= awaited]):
                self.missed += segment.sequence - awaited
                awaited = segment.sequence + 1
                if not segment.gap:
                    yield segment
                if time.monotonic() - loaded > playlist.target_duration:
                    break  # the others may be gone meanwhile
            else:
                if playlist.ended:
                    return
            changed = time.monotonic() if fresh else changed
            self._check_silence(changed, playlist.target_duration)
            self._wait_for_reload(loaded, playlist.target_duration, unchanged=not fresh)
            loaded = time.monotonic()
            playlist = self._newest = self._reloaded() or playlist
            if _restarted(playlist, awaited):
                awaited = playlist.segments[-1].sequence
                self.restarts += 1

    def _reloaded(self) -> MediaPlaylist | None:
        """The playlist as it is now; None where it could not be had this time, or is just being written. Raises
        SourceError."""
        try:
            playlist, self._base = self._read()
        except (TryLaterError, PlaylistError):
            return None
        return playlist if isinstance(playlist, MediaPlaylist) else None

    def _check_silence(self, changed: float, target: float) -> None:
        patience = max(self._http.limits.read_timeout, _SILENT_TARGETS * target)
        if time.monotonic() - changed > patience:
            raise TryLaterError(f"the playlist has named no new segment for {patience:.0f} s")

    def _wait_for_reload(self, loaded: float, target: float, *, unchanged: bool) -> None:
        """RFC 8216, 6.3.4: a target duration after the last load, half of it when nothing was new."""
        interval = max(_LEAST_RELOAD_SECONDS, target / 2 if unchanged else target)
        pause(max(0.0, loaded + interval - time.monotonic()), self._http.network.watch)


def best_variant(playlist: MasterPlaylist) -> Variant:
    """The largest one of at most 1080 lines, else the smallest; among equals the one with the greatest bandwidth.

    Always the same one of the same playlist, since frames are numbered by it. Raises SourceError where all are of
    sound.
    """
    seen = [variant for variant in playlist.variants if variant.has_pictures]
    if not seen:
        raise SourceError("the playlist names variants of sound alone: submit one with pictures")
    fitting = [variant for variant in seen if (variant.height or 0) <= _TALLEST]
    if fitting:
        return max(fitting, key=lambda variant: (variant.height or 0, variant.bandwidth))
    return min(seen, key=lambda variant: (variant.height or 0, variant.bandwidth))


def first_live(playlist: MediaPlaylist, behind: SourcePosition | None) -> int:
    """The number of the segment to begin with."""
    edge = playlist.segments[-1].sequence if playlist.segments else 0
    if behind is None or _restarted(playlist, behind.sequence + 1):
        return edge
    if (
        edge < behind.sequence
    ):  # an old copy of the playlist, or it is empty yet: what it names was there already
        return behind.sequence
    after = sum(segment.duration for segment in playlist.segments if segment.sequence > behind.sequence)
    listed = any(is_at(segment, behind) for segment in playlist.segments)
    return behind.sequence if listed and after <= _LONGEST_BACKLOG else edge


def _restarted(playlist: MediaPlaylist, awaited: int) -> bool:
    """Its numbers began anew: the newest one is further back than a stale copy of the playlist would show."""
    count = len(playlist.segments)
    return count > 0 and playlist.segments[-1].sequence + count < awaited - 1
