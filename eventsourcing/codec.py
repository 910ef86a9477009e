"""Domain events to bytes and back: JSON by msgspec, typed, with upcasters for what older programs wrote.

The schema version of an event travels in its metadata under `schema_version`; version 1 is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from eventsourcing.errors import EventDecodingError, UnknownEventTypeError
from eventsourcing.events import NewEvent, RecordedEvent
from eventsourcing.upcasters import Document, Upcaster, UpcasterChain, chains

SCHEMA_VERSION_KEY: Final = "schema_version"
_KEY_IN_JSON: Final = b'"schema_version"'
_NO_METADATA: Final[Mapping[str, str]] = {}


class _SchemaVersion(msgspec.Struct):
    schema_version: str = "1"


class _EventClass:
    """What the codec knows of one event type."""

    __slots__ = ("chain", "cls", "decode", "marker", "metadata", "version")

    def __init__(self, cls: type[msgspec.Struct], chain: UpcasterChain) -> None:
        self.cls = cls
        self.chain = chain
        self.version = chain.newest
        self.decode: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(cls).decode
        self.metadata = {SCHEMA_VERSION_KEY: str(self.version)} if self.version > 1 else _NO_METADATA
        # Cannot occur inside a JSON string, where its quotes would be escaped.
        self.marker = b'"schema_version":"%d"' % self.version


class EventCodec:
    """Encodes and decodes the registered event classes; an event's type is its class's name.

    The newest schema version of a class is one more than its last upcaster starts from, 1 without upcasters.
    """

    def __init__(self, classes: Iterable[type[msgspec.Struct]], upcasters: Iterable[Upcaster] = ()) -> None:
        """Raises ValueError for two classes of one name, and for upcasters with gaps or without a class."""
        self._encode = msgspec.json.Encoder().encode
        self._schema_version = msgspec.json.Decoder(_SchemaVersion).decode
        self._document = msgspec.json.Decoder(Document).decode
        self._classes: dict[str, _EventClass] = {}
        self._plain: dict[str, Callable[[bytes], msgspec.Struct]] = {}  # of classes without upcasters
        chain_of = chains(upcasters)
        for cls in classes:
            self._register(cls, chain_of.pop(cls.__name__, UpcasterChain({})))
        if chain_of:
            raise ValueError(f"upcasters for event types without a class: {sorted(chain_of)}")

    def _register(self, cls: type[msgspec.Struct], chain: UpcasterChain) -> None:
        if cls.__name__ in self._classes:
            raise ValueError(f"two event classes are named {cls.__name__}")
        known = self._classes[cls.__name__] = _EventClass(cls, chain)
        if known.version == 1:
            self._plain[cls.__name__] = known.decode

    @property
    def event_types(self) -> tuple[str, ...]:
        return tuple(self._classes)

    def newest_version(self, event_type: str) -> int | None:
        """The schema version that events of this type are written in; None for a type that is not registered."""
        known = self._classes.get(event_type)
        return None if known is None else known.version

    def encode(
        self,
        event: msgspec.Struct,
        *,
        event_id: UUID | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> NewEvent:
        """`event` ready to append; without `event_id` it gets a new UUIDv7. Raises UnknownEventTypeError."""
        known = self._classes.get(type(event).__name__)
        if known is None or known.cls is not type(event):
            raise UnknownEventTypeError(f"no event class {type(event).__qualname__} is registered")
        return NewEvent(
            event_id=event_id or uuid7(),
            event_type=known.cls.__name__,
            data=self._encode(event),
            metadata={**(metadata or _NO_METADATA), **known.metadata},
        )

    def decode(self, recorded: RecordedEvent) -> msgspec.Struct:
        """The event, in the newest shape of its class.

        Raises UnknownEventTypeError, and EventDecodingError where the bytes do not fit, an upcaster fails or
        a newer program wrote the event.
        """
        known = self._classes.get(recorded.event_type)
        if known is None:
            raise UnknownEventTypeError(f"no event class {recorded.event_type!r} is registered")
        try:
            # Both tests are cheaper than parsing the metadata; where they say no, it is parsed.
            if known.marker in recorded.metadata_json or (
                known.version == 1 and _KEY_IN_JSON not in recorded.metadata_json
            ):
                return known.decode(recorded.data)
            return self._decode_old(known, recorded)
        except Exception as error:
            raise EventDecodingError(
                f"{recorded.event_type} at {recorded.stream_name}@{recorded.stream_position}: {error}"
            ) from error

    def decode_all(self, events: Sequence[RecordedEvent]) -> list[msgspec.Struct]:
        """All `events`, as `decode` does it; quicker."""
        plain, decode = self._plain.get, self.decode
        try:
            return [
                cls_decode(event.data)
                if _KEY_IN_JSON not in event.metadata_json and (cls_decode := plain(event.event_type))
                else decode(event)
                for event in events
            ]
        except Exception:
            return [decode(event) for event in events]  # raises for the one that does not fit

    def _decode_old(self, known: _EventClass, recorded: RecordedEvent) -> msgspec.Struct:
        version = self._version_of(recorded)
        if not 1 <= version <= known.version:
            raise ValueError(f"schema version {version}, this program knows 1 to {known.version}")
        if version == known.version:
            return known.decode(recorded.data)
        document = known.chain.upcast(self._document(recorded.data), version)
        return msgspec.convert(document, known.cls)

    def _version_of(self, recorded: RecordedEvent) -> int:
        if not recorded.metadata_json:
            return 1
        return int(self._schema_version(recorded.metadata_json).schema_version)
