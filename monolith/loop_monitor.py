"""How late the event loop runs what is due: the measure of whether anything blocks it."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import CollectorRegistry, Histogram

_INTERVAL: Final = 0.05
"""Often enough to meet every stall of interest within a minute, seldom enough to cost nothing."""
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class LoopMonitor:
    """Run it as one task."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Histogram(
            "video_analysis_event_loop_lag_seconds",
            "How late a timer of the event loop fired",
            buckets=_BUCKETS,
            registry=registry,
        )

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _INTERVAL
            await asyncio.sleep(_INTERVAL)
            self._lag.observe(max(0.0, loop.time() - due))
