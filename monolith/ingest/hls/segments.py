"""The bytes of HLS segments, decrypted where they are encrypted."""

from __future__ import annotations

from typing import Final

from monolith.ingest.checked_http import WHOLE, CheckedHttp, HttpBody, Span
from monolith.ingest.errors import SourceError
from monolith.ingest.hls.decryption import KEY_BYTES, DecryptedBody
from monolith.ingest.hls.playlist import ByteRange, InitSection, Key, MediaSegment
from monolith.ingest.hls.playlists import Playlists
from monolith.ingest.web_url import WebUrl

_KEYS_KEPT: Final = 4


class SegmentReader:
    """One segment, or initialization section, at a time. `received`: bytes so far, of all of them; `received_of_this`:
    of the one that is open."""

    def __init__(self, http: CheckedHttp, playlists: Playlists) -> None:
        self._http = http
        self._playlists = playlists
        self._keys: dict[WebUrl, bytes] = {}
        self._body: HttpBody | None = None
        self._clear: HttpBody | DecryptedBody | None = None
        self.received = 0
        self.received_of_this = 0

    @property
    def is_open(self) -> bool:
        return self._body is not None

    def open(self, segment: MediaSegment) -> None:
        """Raises SourceError."""
        self._open("a segment", segment.uri, segment.byte_range, segment.key, segment.sequence)

    def open_init(self, init: InitSection) -> None:
        """Raises SourceError."""
        self._open("an initialization section", init.uri, init.byte_range, init.key, 0)

    def _open(self, what: str, uri: str, part: ByteRange | None, key: Key | None, sequence: int) -> None:
        self.close()
        url = self._playlists.resolved(what, uri)
        secret = None if key is None else (self._key(key), key.iv or sequence.to_bytes(16))
        self._body = HttpBody(self._http, url, Span(*part) if part else WHOLE)
        self.received_of_this = 0
        self._clear = self._body if secret is None else DecryptedBody(self._body.read, *secret)

    def read(self, size: int) -> bytes:
        """1…`size` bytes; b"" at the end. Raises SourceError."""
        assert self._clear is not None
        data = self._clear.read(size)
        self.received += len(data)
        self.received_of_this += len(data)
        return data

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = self._clear = None

    def _key(self, key: Key) -> bytes:
        if key.method != "AES-128" or key.key_format != "identity":
            raise SourceError(
                f"the segments are encrypted with {key.method[:40]!r} ({key.key_format[:40]!r});"
                " what can be read is no encryption, or AES-128 with a key that the playlist names"
            )
        url = self._playlists.resolved("a key", key.uri)
        if url not in self._keys:
            if len(self._keys) >= _KEYS_KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[url] = self._fetched(url)
        return self._keys[url]

    def _fetched(self, url: WebUrl) -> bytes:
        value, _ = self._http.read_whole(url, KEY_BYTES)
        if len(value) != KEY_BYTES:
            raise SourceError(f"the key of the playlist has {len(value)} bytes instead of {KEY_BYTES}")
        return value
