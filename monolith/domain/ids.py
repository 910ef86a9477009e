"""Ids: UUIDv7 for what is new, UUIDv5 of what it is about where a retry must give the same id."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

import uuid_utils

_NAMESPACE: Final = UUID("6f1d7f5e-3a55-5b52-9b0e-5a3c1f0f7a11")


def new_id() -> str:
    """A UUIDv7: sorted by time of making."""
    return str(uuid_utils.uuid7())


def id_of(*parts: object) -> UUID:
    """The UUIDv5 of `parts`: the same for the same parts, ever."""
    return uuid5(_NAMESPACE, "/".join(map(str, parts)))
