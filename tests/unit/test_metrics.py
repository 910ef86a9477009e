"""What Prometheus sees: names by its rules, values from where they are, nothing that fails a whole scrape."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import apsw
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from eventsourcing.adapters.sqlite import SqliteEventStore
from eventsourcing.codec import EventCodec
from eventsourcing.projection import ProjectionRunner
from eventsourcing.versions import ANY
from monolith.domain.events import DOMAIN_EVENTS
from monolith.machine_metrics import add_process_metrics, child_readings, database_readings
from monolith.metrics import Reading, ReadingsCollector, projection_readings, store_readings
from monolith.projection_lag import WatchedProjection
from monolith.readmodels.queries import ReadModels
from tests.unit.readmodels.story import analysed, recorded, whole_video


async def test_the_lag_of_the_read_models_and_what_is_parked(tmp_path: Path) -> None:
    codec, registry = EventCodec(DOMAIN_EVENTS), CollectorRegistry()
    store = await SqliteEventStore.open(tmp_path / "events.db")
    models = await ReadModels.open(tmp_path / "read.db", codec)
    runner = ProjectionRunner(store, models.projection)
    watched = WatchedProjection(runner, lambda: store.last_position, lambda: models.projection.parked)
    ReadingsCollector(registry, [*store_readings(store), *projection_readings([watched])])

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"video_analysis_{name}", labels)

    def projection(name: str) -> float | None:
        return value(f"projection_{name}", projection=watched.name)

    events = whole_video()
    for stream, event in events:
        await store.append(stream, [codec.encode(event)], expected_version=ANY)
    assert (projection("lag_events"), projection("running")) == (len(events), 0)
    async with runner:
        await runner.wait_for(store.last_position, 60)
        assert (projection("lag_events"), projection("lag_seconds"), projection("running")) == (0, 0, 1)
        assert (value("event_store_position"), value("event_store_queue_length")) == (len(events), 0)
    await models.projection.park(recorded([analysed([1])], 200)[0], ValueError("bad"))
    assert projection("parked_events") == 1
    await models.close()
    await store.close()


async def test_a_reading_is_taken_in_the_event_loop_also_when_a_thread_scrapes() -> None:
    registry = CollectorRegistry()
    loop = asyncio.get_running_loop()

    def in_the_loop() -> float:
        return float(asyncio.get_running_loop() is loop)

    ReadingsCollector(registry, [("in_loop", "Where it is read", in_the_loop)])
    text = await asyncio.to_thread(generate_latest, registry)
    assert b"video_analysis_in_loop 1.0" in text


async def test_a_reading_that_fails_is_left_out_and_the_others_are_there() -> None:
    registry = CollectorRegistry()

    def fails() -> float:
        raise RuntimeError("changed size during iteration")

    ReadingsCollector(registry, [("broken", "It fails", fails), ("whole", "It works", lambda: 7)])
    families = {one.name for one in text_string_to_metric_families(generate_latest(registry).decode())}
    assert families == {"video_analysis_whole"}


def test_labels_and_counters() -> None:
    registry = CollectorRegistry()
    readings: list[Reading] = [
        ("things_total", "Things so far", lambda: 3),
        ("load{kind}", "By kind", lambda: {"a": 1.0, "b": 2.0}),
    ]
    ReadingsCollector(registry, readings)
    families = {one.name: one for one in text_string_to_metric_families(generate_latest(registry).decode())}
    assert families["video_analysis_things"].type == "counter"
    load = families["video_analysis_load"]
    assert (load.type, load.documentation) == ("gauge", "By kind")
    assert {sample.labels["kind"]: sample.value for sample in load.samples} == {"a": 1.0, "b": 2.0}


async def test_processes_databases_and_the_build(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    add_process_metrics(registry)
    (tmp_path / "x.db").write_bytes(b"x" * 100)
    (tmp_path / "x.db-wal").write_bytes(b"x" * 11)
    files = {"x": tmp_path / "x.db", "none": tmp_path / "none.db"}
    child = await asyncio.create_subprocess_exec("sleep", "30")
    try:
        gone = 2**22 + 1
        children = {"one": lambda: [child.pid], "ended": lambda: [gone]}
        ReadingsCollector(registry, [*database_readings(files), *child_readings(children)], blocking=True)
        value = registry.get_sample_value
        assert value("video_analysis_database_bytes", {"database": "x"}) == 111
        assert value("video_analysis_database_bytes", {"database": "none"}) == 0
        with contextlib.closing(apsw.Connection(":memory:")) as database:
            database.execute("CREATE TABLE x(y)")
            assert (value("video_analysis_database_memory_bytes") or 0) > 1000
        assert (value("video_analysis_child_memory_bytes", {"kind": "one"}) or 0) > 0
        assert value("video_analysis_child_memory_bytes", {"kind": "ended"}) == 0
    finally:
        child.kill()
        await child.wait()
    assert (value("process_resident_memory_bytes") or 0) > 1e6
    assert b"video_analysis_build_info{" in generate_latest(registry)
