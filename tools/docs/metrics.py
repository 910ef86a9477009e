"""The metrics, from what the program registers: names, types, labels and help; nothing runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from monolith import machine_metrics, metrics
from monolith.loop_monitor import LoopMonitor
from monolith.work_metrics import WorkMetrics
from tools.docs.api import unused_app
from tools.docs.markdown import code, page, table

_INTRO: Final = (
    "`GET /metrics` has them in Prometheus' text format. Counters count since the start of the process. Besides"
    " these there are the process's own (`process_*`)."
)


class _Anything:
    """Stands for the parts of a running program: the help of a metric does not depend on them."""

    def __getattr__(self, name: str) -> _Anything:
        return self

    def items(self) -> list[Any]:
        return []


def metrics_page() -> str:
    rows = sorted([*_registered(), *_read()])
    head = ("metric", "type", "label", "what it is")
    return page("Metrics", "`monolith.metrics` and what else is registered", [_INTRO, table(head, rows)])


def _read() -> Iterable[tuple[str, str, str, str]]:
    anything: Any = _Anything()
    readings = [
        *metrics.work_readings(anything, anything),
        *metrics.followed_readings(anything, anything),
        *metrics.decoder_readings(anything),
        *metrics.inference_readings(anything),
        *metrics.store_readings(anything),
        *metrics.projection_readings([]),
        *metrics.annotated_readings(anything),
        *metrics.rebuild_readings(anything),
        *metrics.retention_readings(anything),
        *metrics.viewer_readings(anything),
        *metrics.webrtc_readings(anything),
        *metrics.pushed_readings(anything, anything),
        *metrics.rtmp_readings(anything),
        *metrics.webhook_readings(anything, anything, anything),
        *metrics.broker_readings(anything),
        *metrics.relay_readings(anything),
        *metrics.command_readings(anything),
        *machine_metrics.disk_readings(anything),
        *machine_metrics.log_readings(),
        *machine_metrics.database_readings({}),
        *machine_metrics.child_readings({}),
    ]
    for name, text, _ in readings:
        plain, _, label = name.partition("{")
        kind = "counter" if plain.endswith("_total") else "gauge"
        yield code(metrics.PREFIX + plain), kind, code(label.rstrip("}")), text


def _registered() -> Iterable[tuple[str, str, str, str]]:
    registry = CollectorRegistry()
    WorkMetrics(registry)
    LoopMonitor(registry)
    unused_app(registry)
    machine_metrics.add_process_metrics(registry)
    for collector in list(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase):
            labels = ", ".join(code(label) for label in collector._labelnames)
            name = collector._name + ("_total" if collector._type == "counter" else "")
            yield code(name), str(collector._type), labels, collector._documentation
