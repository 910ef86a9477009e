"""Access as the settings want it, for a start of the program."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from monolith.access.control import AccessControl
from monolith.access.errors import AccessError
from monolith.access.key_file import KeyFile
from monolith.access.key_ring import KeyRing
from monolith.access.local import LocalAccess, publish, withdraw
from monolith.access.rates import TokenBuckets
from monolith.access.self_signed import keep_self_signed, names_of_this_machine
from monolith.access.sessions import Sessions
from monolith.access.tls import ServerTls, TlsError, TlsFiles, fingerprint, pem
from monolith.settings import Settings

logger = logging.getLogger(__name__)


class NoKeyError(AccessError):
    """Others could ask, and nobody could be let in."""


async def open_access(settings: Settings) -> AccessControl:
    """Raises AccessError."""
    keys = KeyRing(KeyFile(settings.keys_path)) if settings.asks_for_keys else None
    if keys is not None:
        await keys.load()
    limited = settings.asks_for_keys or not settings.serves_this_machine_only
    return AccessControl(
        keys=keys,
        sessions=Sessions(settings.session_lifetime),
        requests=TokenBuckets(settings.rate_limit, settings.rate_burst)
        if limited and settings.rate_limit
        else None,
        https=settings.serves_tls or settings.public_url.startswith("https:"),
        hsts=bool(settings.tls_certificate),
        cors_origins=settings.cors_origins,
    )


async def check_access(settings: Settings) -> None:
    """Before a server starts: whoever can ask can be told apart, or it was said that this is not wanted.

    Raises AccessError.
    """
    access = await open_access(settings)
    if access.keys is None:
        if not settings.serves_loopback_only:
            logger.warning(
                "VIDEO_ANALYSIS_AUTH is off and the server listens on %s: EVERYONE who reaches that address may see, "
                "submit and delete videos; leave it so only where something in front checks who asks",
                settings.host,
            )
        return
    if access.keys.valid:
        return
    make = f"`video-analysis keys create --data-dir {settings.data_dir}`"
    if not settings.serves_loopback_only:
        raise NoKeyError(
            f"others than this machine can reach {settings.host}, so requests need an API key, and there is none in "
            f"{settings.keys_path}; make one with {make}, listen on 127.0.0.1, or set VIDEO_ANALYSIS_AUTH=off where "
            f"something in front checks who asks"
        )
    logger.warning(
        "requests need an API key and there is none: only this machine's command line is let in; %s", make
    )


def open_tls(settings: Settings) -> ServerTls | None:
    """None: plain HTTP. Blocks; raises TlsError."""
    if not settings.serves_tls:
        return None
    if settings.tls_self_signed:
        if settings.tls_certificate or settings.tls_key:
            raise TlsError("a tls_certificate was named and a self-signed one wanted; take one of the two")

        def keep() -> TlsFiles:
            names = names_of_this_machine(settings.host, urlsplit(settings.public_url).hostname)
            return keep_self_signed(settings.data_dir.absolute() / "tls", names)

        return ServerTls(keep(), keep)
    if not settings.tls_certificate or not settings.tls_key:
        missing = "tls_key" if settings.tls_certificate else "tls_certificate"
        raise TlsError(f"HTTPS needs a certificate and its key; set VIDEO_ANALYSIS_{missing.upper()}, too")
    return ServerTls(TlsFiles(Path(settings.tls_certificate), Path(settings.tls_key)))


@asynccontextmanager
async def known_to_this_machine(data_dir: Path, token: str, tls: ServerTls | None) -> AsyncIterator[None]:
    """The command line of this user is let in with `token` and knows the certificate, also when it changes.

    Raises OSError.
    """

    def tell(certificate: x509.Certificate | None) -> None:
        publish(data_dir, LocalAccess(token=token, certificate=pem(certificate) if certificate else ""))

    await asyncio.to_thread(tell, tls.certificate if tls else None)
    watching = asyncio.create_task(tls.watch(tell), name="TLS certificate") if tls else None
    if watching is not None:
        watching.add_done_callback(_log_failure)
    try:
        yield
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})
        await asyncio.to_thread(withdraw, data_dir)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s is not looked after any more", task.get_name(), exc_info=task.exception())


def describe_tls(tls: ServerTls) -> str:
    """For people, to be compared with what their browser shows."""
    end = tls.certificate.not_valid_after_utc
    return f"TLS certificate: SHA-256 {fingerprint(tls.certificate)}, valid until {end:%Y-%m-%d}"
