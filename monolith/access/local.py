"""How the command line of this machine reaches the server that holds the data directory: a file only its user reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

FILE: Final = "local-access.json"


class LocalAccess(msgspec.Struct, frozen=True, kw_only=True):
    """`token`: a key, valid until the server ends. `certificate`: the only one to trust (PEM); "" without TLS."""

    token: str
    certificate: str = ""


def publish(data_dir: Path, access: LocalAccess) -> None:
    """Blocks; raises OSError. The file has mode 0600 and is there whole or not at all."""
    part = data_dir / f".{FILE}.{uuid4()}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(access) + b"\n")
        part.replace(data_dir / FILE)
    finally:
        part.unlink(missing_ok=True)


def withdraw(data_dir: Path) -> None:
    """Blocks; raises OSError. Idempotent."""
    (data_dir / FILE).unlink(missing_ok=True)


def find(data_dir: Path) -> LocalAccess | None:
    """What a running server has published; None: nothing, or nothing that this user may read."""
    try:
        return msgspec.json.decode((data_dir / FILE).read_bytes(), type=LocalAccess)
    except (OSError, msgspec.DecodeError):
        return None
