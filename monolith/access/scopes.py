"""What a key allows. Scopes are independent of each other, but for `admin`, which allows everything."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    READ = "read"
    """See videos, results, frames, events, metrics."""
    WRITE = "write"
    """Submit, cancel, delete."""
    ADMIN = "admin"
    """Whatever concerns more than one video: retention, rebuilding. Includes the others."""


ALL_SCOPES: Final = tuple(Scope)


def allows(held: Collection[Scope], needed: Scope) -> bool:
    return needed in held or Scope.ADMIN in held


def ordered(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """Without repeats, in the order of `Scope`."""
    wanted = set(scopes)
    return tuple(scope for scope in Scope if scope in wanted)
