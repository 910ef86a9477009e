"""What Prometheus sees of the running program: queues, workers, lag. Read when scraped, so it costs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Reading: TypeAlias = tuple[str, str, Callable[[], float]]
"""Name without prefix, help text, and where the value comes from."""


class ReadingsCollector(Collector):
    """Gauges whose values are asked for at each scrape."""

    def __init__(self, registry: CollectorRegistry, readings: Iterable[Reading]) -> None:
        self._readings = list(readings)
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Names only: nothing is read when the collector is registered."""
        for name, text, _ in self._readings:
            yield GaugeMetricFamily(f"video_analysis_{name}", text)

    def collect(self) -> Iterator[Metric]:
        for name, text, read in self._readings:
            yield GaugeMetricFamily(f"video_analysis_{name}", text, value=read())
