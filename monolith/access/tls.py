"""TLS: certificate files that are checked before they are used, and taken over when they change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from monolith.access.errors import AccessError

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_KEEP_SECONDS: Final = 3600.0
_MOST_BYTES: Final = 1 << 20


class TlsError(AccessError):
    """Certificate or key cannot be used; the text says why and what would be right."""


class TlsFiles(msgspec.Struct, frozen=True):
    """`certificate`: PEM, the server's own first, then those that lead to a root. `key`: its private key, PEM."""

    certificate: Path
    key: Path

    def check(self, now: datetime | None = None) -> x509.Certificate:
        """The server's own certificate. Blocks; raises TlsError where the two do not fit, or are not valid at `now`."""
        certificate = _certificate(self.certificate)
        _check_dates(self.certificate, certificate, now or datetime.now(UTC))
        if _public(certificate) != _public_of_key(self.key):
            raise TlsError(
                f"{self.key} is not the key of {self.certificate}; name the two that belong together"
            )
        return certificate


def fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 fingerprint, as browsers show it: `AB:CD:…`."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def client_context(certificate: str) -> ssl.SSLContext:
    """Trusts exactly this certificate (PEM), whatever names are in it: it is known as it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context


class ServerTls:
    """The server's side of TLS, 1.2 or newer. `context` stays the same object when the certificate is another one."""

    def __init__(self, files: TlsFiles, keep: Callable[[], object] | None = None) -> None:
        """Blocks; raises TlsError. `keep` is called once an hour, in a thread, to see to the files."""
        self._files = files
        self._keep = keep
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.certificate = self._take_over()
        self._version = self._look()

    async def watch(self, on_change: Callable[[x509.Certificate], object]) -> None:
        """Take over files that change, until cancelled; `on_change` runs in a thread. Files that are not right are left
        alone: what was there goes on."""
        complaint, kept = "", time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if self._keep is not None and time.monotonic() - kept > _KEEP_SECONDS:
                    kept = time.monotonic()
                    await asyncio.to_thread(self._keep)
                found = await asyncio.to_thread(self._look)
                if found != self._version:
                    self.certificate = await asyncio.to_thread(self._take_over)
                    self._version, complaint = found, ""
                    await asyncio.to_thread(on_change, self.certificate)
                    logger.info(
                        "another TLS certificate is in use: SHA-256 %s", fingerprint(self.certificate)
                    )
            except (TlsError, OSError) as error:
                if str(error) != complaint:
                    logger.error("%s; the old TLS certificate stays in use", error)
                complaint = str(error)

    def _take_over(self) -> x509.Certificate:
        """Tried on a context of its own first: one that fails midway would be left with half of it."""
        certificate = self._files.check()
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            try:
                context.load_cert_chain(self._files.certificate, self._files.key, password=_no_password)
            except (ssl.SSLError, OSError) as error:
                raise TlsError(
                    f"{self._files.certificate} and {self._files.key} cannot be used: {error}"
                ) from error
        return certificate

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Changes with the files."""
        return tuple(_version(path) for path in (self._files.certificate, self._files.key))


def _version(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def _no_password() -> bytes:
    """Without it OpenSSL would ask on the terminal."""
    return b""


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read(path))[0]
    except (ValueError, IndexError) as error:
        raise TlsError(
            f"{path} holds no certificate; it must be a PEM file that begins with the server's own"
        ) from error


def _check_dates(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise TlsError(f"the certificate in {path} expired on {end:%Y-%m-%d %H:%M} UTC; put a new one there")
    if now < start:
        raise TlsError(
            f"the certificate in {path} is valid only from {start:%Y-%m-%d %H:%M} UTC on; is the clock right?"
        )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_of_key(path: Path) -> bytes:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except TypeError as error:
        raise TlsError(
            f"the key in {path} is protected by a passphrase; name one without, of mode 0600"
        ) from error
    except ValueError as error:
        raise TlsError(f"{path} holds no private key; it must be a PEM file") from error
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise TlsError(
            f"{path} cannot be read: {error.strerror}; name a PEM file that this user may read"
        ) from error
