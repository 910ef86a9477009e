"""What Prometheus sees of the event store and of the read models behind it."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY
from monolith.domain.events import DOMAIN_EVENTS
from monolith.metrics import ReadingsCollector, store_readings
from monolith.readmodels.queries import ReadModels
from tests.unit.readmodels.story import analysed, recorded, whole_video


async def test_the_lag_of_the_read_models_and_what_is_parked(tmp_path: Path) -> None:
    codec, registry = EventCodec(DOMAIN_EVENTS), CollectorRegistry()
    store = await SqliteEventStore.open(tmp_path / "events.db")
    models = await ReadModels.open(tmp_path / "read.db", codec)
    runner = ProjectionRunner(store, models.projection)
    ReadingsCollector(registry, store_readings(store, runner, models))

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"video_analysis_{name}")

    events = whole_video()
    for stream, event in events:
        await store.append(stream, [codec.encode(event)], expected_version=ANY)
    assert (value("projection_lag"), value("projection_running")) == (len(events), 0)
    async with runner:
        await runner.wait_for(store.last_position, 10)
        assert (value("projection_lag"), value("projection_running")) == (0, 1)
        assert (value("event_store_position"), value("event_store_waiting_appends")) == (len(events), 0)
    await models.projection.park(recorded([analysed([1])], 200)[0], ValueError("bad"))
    assert value("projection_parked_events") == 1
    await models.close()
    await store.close()
