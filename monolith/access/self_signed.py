"""A certificate of our own making: for a first start, and for networks where nobody issues one."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from monolith.access.tls import TlsError, TlsFiles, pem

LIFETIME: Final = timedelta(days=397)
"""What browsers accept at most."""
RENEW_BEFORE: Final = timedelta(days=30)
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses of nobody: asking for a way there sends nothing and tells which address of ours it would leave from."""


def keep_self_signed(folder: Path, names: Iterable[str], now: datetime | None = None) -> TlsFiles:
    """The files in `folder`; made, or made again where they are not right, end within a month, or lack one of `names`
    (host names and addresses). The private key stays the same. Blocks; raises TlsError."""
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    now = now or datetime.now(UTC)
    wanted = list(dict.fromkeys(names))
    try:
        if not _good(files, wanted, now):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = _kept_key(files.key) or _new_key(files.key)
            _write(files.certificate, pem(_made(key, wanted, now)).encode(), 0o644)
    except OSError as error:
        raise TlsError(f"no certificate can be kept in {folder}: {error.strerror}") from error
    return files


def names_of_this_machine(host: str, public_host: str | None) -> list[str]:
    """Under which a server that listens on `host` may be asked for. Blocks for a moment."""
    found = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *_own_addresses()]
    if not _is_any_address(host):
        found.append(host)
    if public_host:
        found.append(public_host)
    return found


def _own_addresses() -> list[str]:
    found = []
    for family, elsewhere in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue  # no way out by this family
    return found


def _is_any_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _good(files: TlsFiles, names: list[str], now: datetime) -> bool:
    try:
        certificate = files.check(now)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (TlsError, x509.ExtensionNotFound):
        return False
    lasts = certificate.not_valid_after_utc - now > RENEW_BEFORE
    return lasts and all(_general_name(name) in held for name in names)


def _made(key: ec.EllipticCurvePrivateKey, names: list[str], now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "video-analysis")])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + LIFETIME - _CLOCKS_DIFFER)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode() if not name.isascii() else name)


def _kept_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    part = path.with_name(f".{path.name}.{uuid4()}.part")
    try:
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb"
        ) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
