"""Old events in the shape of today: pure functions from one schema version to the next, applied on read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

Document: TypeAlias = dict[str, Any]
"""The JSON object of an event, decoded."""


class Upcaster(msgspec.Struct, frozen=True):
    """Turns version `from_version` (from 1) of `event_type` into the next one.

    `function` is pure; it may change and return the document it was given, which nobody else holds.
    """

    event_type: str
    from_version: int
    function: Callable[[Document], Document]


class UpcasterChain:
    """The upcasters of one event type, `newest` being the version that the last of them makes."""

    def __init__(self, steps: Mapping[int, Callable[[Document], Document]]) -> None:
        """`steps`: by the version they start from. Raises ValueError where a version is left out."""
        self.newest = max(steps, default=0) + 1
        if sorted(steps) != list(range(1, self.newest)):
            raise ValueError(f"upcasters start from versions {sorted(steps)}, want 1 to {self.newest - 1}")
        self._steps = dict(steps)

    def upcast(self, document: Document, version: int) -> Document:
        """The document, which has `version` (1 to `newest`), at the newest version."""
        for step in range(version, self.newest):
            document = self._steps[step](document)
        return document


def chains(upcasters: Iterable[Upcaster]) -> dict[str, UpcasterChain]:
    """One chain for each event type. Raises ValueError for gaps and for two upcasters of the same step."""
    steps: dict[str, dict[int, Callable[[Document], Document]]] = {}
    for upcaster in upcasters:
        of_type = steps.setdefault(upcaster.event_type, {})
        if upcaster.from_version in of_type:
            raise ValueError(f"two upcasters of {upcaster.event_type} from version {upcaster.from_version}")
        of_type[upcaster.from_version] = upcaster.function
    return {event_type: UpcasterChain(of_type) for event_type, of_type in steps.items()}
