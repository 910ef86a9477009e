"""The port, who has it, whether the server there is ready; TLS and keys."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx

from monolith.access.errors import AccessError
from monolith.access.key_file import KeyFile
from monolith.access.local import find
from monolith.access.tls import TlsFiles, client_context
from monolith.datadir import DataDirError, held_by
from monolith.doctor.findings import Finding, ok, problem, warning
from monolith.settings import Settings
from monolith.settings_loading import variable

_ASK_SECONDS: Final = 4.0
_LISTENING: Final = "0A"
_SOON: Final = timedelta(days=21)
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


def port(settings: Settings) -> Iterator[Finding]:
    """Whether the port can be listened on, or who has it."""
    where = f"{settings.host} port {settings.port}"
    if settings.port == 0:
        yield ok("port", "any free one will be taken")
        return
    if _holds_it(settings):
        yield ok("port", f"{where} is that of the server of this data directory")
        return
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        yield _taken(settings, where, error)
        return
    yield ok("port", f"{where} is free")


def _taken(settings: Settings, where: str, error: OSError) -> Finding:
    other = f"choose another one ({variable('port')}, --port)"
    if error.errno == errno.EADDRINUSE:
        return problem(
            "port", f"{where} is taken by {owner_of(settings.port)}", f"stop that process, or {other}"
        )
    if error.errno == errno.EACCES:
        return problem(
            "port", f"this user may not listen on {where}", f"{other} from 1024 on, or give the right to it"
        )
    return problem(
        "port",
        f"{where} cannot be listened on: {error.strerror or error}",
        f"set {variable('host')}, or {other}",
    )


def owner_of(number: int) -> str:
    """The process that listens on a TCP port of this machine, as far as this user may see it."""
    inodes = {
        fields[9]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if (fields := line.split())[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == number
    }
    for process in Path("/proc").glob("[0-9]*"):
        if inodes & set(_sockets_of(process)):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            return f"process {process.name} ({command[:80]})"
    return "a process that this user may not see"


def _sockets_of(process: Path) -> Iterator[str]:
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return
    for link in links:
        try:
            found = _SOCKET.fullmatch(str(link.readlink()))
        except OSError:
            continue
        if found:
            yield found[1]


def _holds_it(settings: Settings) -> bool:
    try:
        holder = held_by(settings.data_dir.absolute())
    except DataDirError:
        return False
    return holder is not None and holder.url == settings.local_url


def server(settings: Settings) -> Iterator[Finding]:
    """Whether the server of this data directory is ready, if there is one."""
    folder = settings.data_dir.absolute()
    try:
        holder = held_by(folder)
    except DataDirError as error:
        yield problem("server", str(error), "run the doctor as the user that the program runs as")
        return
    if holder is None or not holder.url:
        yield ok("server", "none runs on this data directory")
        return
    access = find(folder)
    trusted = client_context(access.certificate) if access is not None and access.certificate else True
    try:
        answer = httpx.get(
            f"{holder.url}/health/ready", timeout=_ASK_SECONDS, verify=trusted, trust_env=False
        )
        reasons: dict[str, str] = answer.json().get("reasons", {})
    except (httpx.HTTPError, ValueError) as error:
        text = f"{holder.url} does not answer: {error}"
        yield problem("server", text, f"look into the log of process {holder.pid}; restart it")
        return
    for part, reason in reasons.items():
        yield problem(
            "server", f"{holder.url} is not ready: {part}: {reason}", "see what it says, and its log"
        )
    if not reasons:
        yield ok("server", f"{holder.url} is ready")


def tls(settings: Settings) -> Iterator[Finding]:
    if not settings.serves_tls:
        if settings.serves_loopback_only or settings.public_url.startswith("https:"):
            yield ok("TLS", "off")
        else:
            yield warning(
                "TLS",
                f"others can reach {settings.host}, over plain HTTP",
                f"set {variable('tls_certificate')} and {variable('tls_key')}, or use --tls-self-signed; browsers give"
                " no camera to plain HTTP",
            )
        return
    if settings.tls_self_signed:
        yield ok("TLS", "with a certificate of its own making, which is renewed by itself")
        return
    try:
        certificate = TlsFiles(Path(settings.tls_certificate), Path(settings.tls_key)).check()
    except AccessError as error:
        yield problem("TLS", str(error), "name a certificate and its key that are valid now")
        return
    ends = certificate.not_valid_after_utc
    found = f"{settings.tls_certificate} is valid until {ends:%Y-%m-%d}"
    if ends - datetime.now(UTC) < _SOON:
        yield warning("TLS", found, "renew it: a running server takes a new file by itself")
    else:
        yield ok("TLS", found)


def keys(settings: Settings) -> Iterator[Finding]:
    """How many there are; never which."""
    try:
        records = KeyFile(settings.keys_path).load()
    except AccessError as error:
        yield problem("API keys", str(error), "see what it says")
        return
    now = datetime.now(UTC)
    valid = sum(record.trouble(now) is None for record in records)
    found = f"{valid} valid of {len(records)}; requests need one: {'yes' if settings.asks_for_keys else 'no'}"
    if settings.asks_for_keys and not valid and not settings.serves_loopback_only:
        yield problem(
            "API keys", found, "make one: `video-analysis keys create`; without one it does not start"
        )
    elif not settings.asks_for_keys and not settings.serves_loopback_only:
        text = f"{found}: everyone who reaches {settings.host} may see, submit and delete"
        yield warning("API keys", text, f"set {variable('auth')} to auto, unless a proxy checks who asks")
    else:
        yield ok("API keys", found)
