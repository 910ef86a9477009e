from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsourcing.codec import EventCodec
from eventsourcing.errors import EventDecodingError, UnknownEventTypeError
from eventsourcing.events import NewEvent, RecordedEvent
from eventsourcing.upcasters import Document, Upcaster


class Named(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    tags: tuple[str, ...] = ()


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Version 3: version 1 had `x`, version 2 `position`, both integers."""

    xy: tuple[int, int]
    by: UUID | None = None


def to_position(document: Document) -> Document:
    return {"position": document["x"]}


def to_xy(document: Document) -> Document:
    return {"xy": [document["position"], 0], "by": document.get("by")}


UPCASTERS = [Upcaster("Moved", 2, to_xy), Upcaster("Moved", 1, to_position)]
CODEC = EventCodec([Named, Moved], UPCASTERS)


def recorded(event_type: str, data: bytes, metadata_json: bytes = b"") -> RecordedEvent:
    return RecordedEvent("s-1", 4, 9, event_type, data, metadata_json, bytes(16), 0.0)


def stored(new: NewEvent) -> RecordedEvent:
    metadata = msgspec.json.encode(new.metadata) if new.metadata else b""
    return RecordedEvent("s-1", 4, 9, new.event_type, new.data, metadata, new.event_id.bytes, 0.0)


@given(st.builds(Named, name=st.text(), tags=st.lists(st.text()).map(tuple)))
def test_round_trip(event: Named) -> None:
    assert CODEC.decode(stored(CODEC.encode(event))) == event


@given(
    st.builds(
        Moved, xy=st.tuples(st.integers(-(2**53), 2**53), st.integers(0, 9)), by=st.none() | st.uuids()
    ),
    st.dictionaries(st.text(), st.text()),
)
def test_round_trip_with_version_and_any_metadata(event: Moved, metadata: dict[str, str]) -> None:
    new = CODEC.encode(event, metadata=metadata)
    assert new.metadata == {**metadata, "schema_version": "3"}
    assert CODEC.decode(stored(new)) == event


def test_an_event_of_the_first_version_carries_no_version() -> None:
    new = CODEC.encode(Named(name="a"), metadata={"correlation_id": "c"})
    assert new.metadata == {"correlation_id": "c"}
    assert new.event_type == "Named"
    assert new.data == b'{"name":"a","tags":[]}'


def test_ids() -> None:
    chosen = UUID("0190163d-8694-739b-aea5-966c26f8ad91")
    assert CODEC.encode(Named(name="a"), event_id=chosen).event_id == chosen
    first, second = (CODEC.encode(Named(name="a")).event_id for _ in range(2))
    assert first.version == 7
    assert first < second
    assert type(first) is UUID


@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        (b'{"x": 5}', b""),
        (b'{"x": 5}', b'{"correlation_id":"c"}'),
        (b'{"x": 5}', b'{"schema_version":"1"}'),
        (b'{"position": 5}', b'{"schema_version":"2"}'),
        (b'{"xy": [5, 0]}', b'{"schema_version":"3"}'),
        (b'{"xy": [5, 0]}', b'{ "schema_version" : "3" }'),
    ],
)
def test_every_version_reads_as_the_newest(data: bytes, metadata: bytes) -> None:
    assert CODEC.decode(recorded("Moved", data, metadata)) == Moved(xy=(5, 0))


def test_upcast_values_become_what_the_class_wants() -> None:
    by = UUID(int=7)
    data = msgspec.json.encode({"position": 1, "by": by})
    assert CODEC.decode(recorded("Moved", data, b'{"schema_version":"2"}')) == Moved(xy=(1, 0), by=by)


def test_a_value_that_looks_like_the_version_is_none() -> None:
    tricky = msgspec.json.encode({"note": '"schema_version":"3"'})
    assert CODEC.decode(recorded("Moved", b'{"x": 5}', tricky)) == Moved(xy=(5, 0))


@pytest.mark.parametrize(
    "metadata", [b'{"schema_version":"4"}', b'{"schema_version":"0"}', b'{"schema_version":"x"}']
)
@pytest.mark.parametrize("event_type", ["Moved", "Named"])
def test_versions_that_nobody_knows(event_type: str, metadata: bytes) -> None:
    with pytest.raises(EventDecodingError, match=f"{event_type} at s-1@4"):
        CODEC.decode(recorded(event_type, b'{"xy": [1, 2], "name": "a"}', metadata))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name": 1}', b"{}", b"\xff"])
def test_bytes_that_do_not_fit(data: bytes) -> None:
    with pytest.raises(EventDecodingError, match="Named at s-1@4"):
        CODEC.decode(recorded("Named", data))


def test_an_upcaster_that_fails_is_a_decoding_error() -> None:
    with pytest.raises(EventDecodingError, match="position") as raised:
        CODEC.decode(recorded("Moved", b"{}", b'{"schema_version":"2"}'))
    assert isinstance(raised.value.__cause__, KeyError)


def test_unknown_types() -> None:
    class Other(msgspec.Struct):
        pass

    class Impostor(msgspec.Struct):
        pass

    Impostor.__name__ = "Named"
    with pytest.raises(UnknownEventTypeError, match="'Gone'"):
        CODEC.decode(recorded("Gone", b"{}"))
    for event in (Other(), Impostor()):
        with pytest.raises(UnknownEventTypeError, match=type(event).__qualname__):
            CODEC.encode(event)


def test_decode_all_and_event_types() -> None:
    events = [Named(name="a"), Moved(xy=(1, 2))]
    assert CODEC.decode_all([stored(CODEC.encode(event)) for event in events]) == events
    assert CODEC.decode_all([recorded("Moved", b'{"x": 5}')]) == [Moved(xy=(5, 0))]
    with pytest.raises(EventDecodingError, match="Named at s-1@4"):
        CODEC.decode_all([recorded("Named", b'{"name": "a"}'), recorded("Named", b"{}")])
    with pytest.raises(UnknownEventTypeError):
        CODEC.decode_all([recorded("Gone", b"{}")])
    with pytest.raises(EventDecodingError, match="Named at"):
        CODEC.decode_all([recorded("Named", b'{"name": "\xff"}')])
    assert CODEC.event_types == ("Named", "Moved")


@pytest.mark.parametrize(
    ("upcasters", "message"),
    [
        ([Upcaster("Moved", 2, to_xy)], r"start from versions \[2\], want 1 to 2"),
        ([*UPCASTERS, Upcaster("Moved", 1, to_xy)], "two upcasters of Moved from version 1"),
        ([Upcaster("Gone", 1, to_xy)], r"without a class: \['Gone'\]"),
        ([Upcaster("Moved", 0, to_xy)], r"start from versions \[0\]"),
    ],
)
def test_upcasters_that_do_not_fit(upcasters: list[Upcaster], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventCodec([Named, Moved], upcasters)


def test_two_classes_of_one_name() -> None:
    with pytest.raises(ValueError, match="two event classes are named Named"):
        EventCodec([Named, Named])
