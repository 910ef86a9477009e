"""URLs as requests need them: checked, in ASCII, the credentials apart so that no text of the URL can show them."""

from __future__ import annotations

import base64
import re
from ipaddress import IPv6Address
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
_SAFE: Final = "!$%&'()*+,/:;=?@~[]"
_LONGEST: Final = 8192
_NAME: Final = re.compile(r"[a-z0-9._-]+")


class UrlError(ValueError):
    """The text is no URL that can be used; says why, without the credentials in it."""


class WebUrl(NamedTuple):
    """`host`: lower case, ASCII (IDNA), an IPv6 address without brackets. `port`: the scheme's own where none is named.
    `target`: path and query, percent-encoded. `username`, `password`: decoded; "" for none."""

    scheme: str
    host: str
    port: int
    target: str
    username: str = ""
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> WebUrl:
        """Of an http, https, rtsp or rtsps URL. Raises UrlError."""
        if len(text) > _LONGEST or not text.isprintable() or " " in text:
            raise UrlError(f"it is not at most {_LONGEST} printable characters without blanks")
        try:
            parts = urlsplit(text)
            host, port = _ascii_host(parts.hostname or ""), parts.port
        except ValueError as error:
            raise UrlError(_without(str(error), text)) from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise UrlError(f"{parts.scheme}: is not allowed" if parts.scheme else "it has no scheme")
        if not host:
            raise UrlError("it names no host")
        if port == 0:
            raise UrlError("port 0 is no port")
        target = quote(parts.path, _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
        credentials = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], target or "/", *credentials)

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are good for: scheme, host, port."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host and port as in a `Host` header, the port left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def has_credentials(self) -> bool:
        return bool(self.username or self.password)

    @property
    def basic_auth(self) -> str | None:
        """The `Authorization` header that servers understand for `user:password@`; None without."""
        if not self.has_credentials:
            return None
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def joined(self, reference: str) -> WebUrl:
        """Where `reference` leads from here; credentials stay behind. Raises UrlError."""
        try:
            text = urljoin(str(self), reference.replace(" ", "%20"))
        except ValueError as error:
            raise UrlError(_without(str(error), reference)) from None
        return WebUrl.parse(text)

    def __str__(self) -> str:
        """Without credentials."""
        return f"{self.scheme}://{self.authority}{self.target}"


def _ascii_host(host: str) -> str:
    """Raises ValueError (UnicodeError) for what is no name."""
    if ":" in host:
        IPv6Address(host)
        return host
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ValueError("the host is no name that could be looked up") from error
    if name and not _NAME.fullmatch(name):
        raise ValueError("the host is no name that could be looked up")
    return name


def _without(reason: str, text: str) -> str:
    """Errors of the parser may quote the whole URL."""
    return "it is malformed" if "@" in text and "@" in reason else reason
