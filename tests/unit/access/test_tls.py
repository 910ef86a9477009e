from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from monolith.access.self_signed import LIFETIME, keep_self_signed, names_of_this_machine
from monolith.access.tls import ServerTls, TlsError, TlsFiles, client_context, fingerprint, pem

NAMES = ["localhost", "127.0.0.1", "video.example.org"]


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return keep_self_signed(tmp_path / "tls", NAMES)


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(end, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def handshake(port: int, context: ssl.SSLContext, name: str | None = None) -> tuple[bytes, str | None]:
    """The certificate of the server (DER) and the version of TLS."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b"", secure.version()


# What we make ourselves


def test_our_own_certificate_is_of_today(files: TlsFiles) -> None:
    certificate = files.check()
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert held.get_values_for_type(x509.DNSName) == ["localhost", "video.example.org"]
    assert held.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1")]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == LIFETIME
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700


def test_our_own_certificate_stays_while_it_is_right(files: TlsFiles) -> None:
    before = files.check()
    assert keep_self_signed(files.key.parent, NAMES[:2]).check() == before


def test_it_is_made_again_before_it_ends_with_the_same_key(files: TlsFiles) -> None:
    before, key = files.check(), files.key.read_bytes()
    later = datetime.now(UTC) + LIFETIME - timedelta(days=20)
    keep_self_signed(files.key.parent, NAMES, later)
    after = files.check(later)
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert files.key.read_bytes() == key


def test_it_is_made_again_for_another_name(files: TlsFiles) -> None:
    keep_self_signed(files.key.parent, [*NAMES, "192.0.2.1"])
    held = files.check().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ip_address("192.0.2.1") in held.get_values_for_type(x509.IPAddress)


@pytest.mark.parametrize("damaged", ["certificate", "key"])
def test_damaged_files_of_our_own_are_made_again(files: TlsFiles, damaged: str) -> None:
    path: Path = getattr(files, damaged)
    path.write_text("rubbish")
    assert keep_self_signed(files.key.parent, NAMES).check()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TlsError, match=r"no certificate can be kept in .*file/tls"):
        keep_self_signed(tmp_path / "file" / "tls", NAMES)


def test_names_of_this_machine() -> None:
    names = names_of_this_machine("192.0.2.9", "video.example.org")
    assert {"localhost", "127.0.0.1", "::1", "192.0.2.9", "video.example.org"} <= set(names)
    assert "0.0.0.0" not in names_of_this_machine("0.0.0.0", None)
    assert "::" not in names_of_this_machine("::", None)


# What users name


def test_a_key_of_another_certificate_is_refused(files: TlsFiles, tmp_path: Path) -> None:
    other = keep_self_signed(tmp_path / "other", NAMES)
    with pytest.raises(TlsError, match=r"is not the key of .*certificate\.pem"):
        TlsFiles(files.certificate, other.key).check()


def test_an_expired_certificate_is_refused(files: TlsFiles) -> None:
    with pytest.raises(TlsError, match=r"expired on \d{4}-\d\d-\d\d .*; put a new one there"):
        files.check(datetime.now(UTC) + LIFETIME)


def test_a_certificate_of_the_future_is_refused(files: TlsFiles) -> None:
    with pytest.raises(TlsError, match=r"is valid only from .*; is the clock right\?"):
        files.check(datetime.now(UTC) - timedelta(days=1))


def test_files_that_are_something_else_are_refused(files: TlsFiles, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"key\.pem holds no certificate; it must be a PEM file"):
        TlsFiles(files.key, files.key).check()
    with pytest.raises(TlsError, match=r"certificate\.pem holds no private key"):
        TlsFiles(files.certificate, files.certificate).check()
    with pytest.raises(TlsError, match=r"nowhere cannot be read: No such file"):
        TlsFiles(tmp_path / "nowhere", files.key).check()


def test_a_key_with_a_passphrase_is_refused(files: TlsFiles, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    secret = tmp_path / "secret.pem"
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(TlsError, match="is protected by a passphrase; name one without"):
        TlsFiles(files.certificate, secret).check()


# In use


async def test_the_client_trusts_exactly_one_certificate(files: TlsFiles, tmp_path: Path) -> None:
    tls, other = ServerTls(files), keep_self_signed(tmp_path / "other", NAMES)
    async with serving(tls.context) as port:
        seen, _ = await asyncio.to_thread(handshake, port, client_context(pem(tls.certificate)))
        assert x509.load_der_x509_certificate(seen) == tls.certificate
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(handshake, port, client_context(pem(other.check())))
        # as a browser that was told to trust it
        trusting = ssl.create_default_context(cafile=str(files.certificate))
        await asyncio.to_thread(handshake, port, trusting, "localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(handshake, port, trusting, "evil.example")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "spoken"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
async def test_tls_is_of_version_1_2_or_newer(files: TlsFiles, version: ssl.TLSVersion, spoken: str) -> None:
    tls = ServerTls(files)
    client = client_context(pem(tls.certificate))
    client.minimum_version = client.maximum_version = version
    async with serving(tls.context) as port:
        assert (await asyncio.to_thread(handshake, port, client))[1] == spoken
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
        client.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(handshake, port, client)


async def test_another_certificate_is_taken_over_while_it_runs(
    files: TlsFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tls = ServerTls(files)
    first = tls.certificate
    changed: asyncio.Queue[x509.Certificate] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    watching = asyncio.create_task(tls.watch(lambda new: loop.call_soon_threadsafe(changed.put_nowait, new)))
    try:
        async with serving(tls.context) as port, asyncio.timeout(60):
            other = keep_self_signed(tmp_path / "other", NAMES)
            shutil.copy(other.certificate, files.certificate)
            while "the old TLS certificate stays in use" not in caplog.text:  # its key is not there yet
                await asyncio.sleep(0.05)
            assert (await asyncio.to_thread(handshake, port, client_context(pem(first))))[0]
            shutil.copy(other.key, files.key)
            second = await changed.get()
            assert second == other.check()
            assert (await asyncio.to_thread(handshake, port, client_context(pem(second))))[0]
            while fingerprint(second) not in caplog.text:
                await asyncio.sleep(0.05)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
