"""The benchmark of live detections runs, with the real program; how fast is not asked."""

from __future__ import annotations

from benchmarks import detection


async def test_a_detections_way_from_the_camera_to_a_client_is_measured() -> None:
    found = await detection.run(seconds=8.0)
    assert found["frames"] >= 2
    assert found["with_objects_share"] > 0, "the street has people and bicycles"
    assert 0 < found["to_model_p50_ms"] < found["p95_ms"]
    assert found["model_p50_ms"] > 0
    assert found["to_client_p50_ms"] > 0
