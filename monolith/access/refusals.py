"""Who is not let in is counted; who guesses keys is told to wait."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from monolith.access.rates import TokenBuckets, client_of

_REASONS: Final = (
    "no key", "wrong key", "scope", "too often", "no token", "wrong token", "wrong stream key"
)  # fmt: skip


class Refusals:
    """`failures`: how often one address may show what is wrong, be it an API key, a token or a stream key."""

    def __init__(self, failures: TokenBuckets, registry: CollectorRegistry) -> None:
        self._failures = failures
        self._refused = Counter(
            "video_analysis_access_refusals",
            "Requests and publishers refused for what they did or did not show",
            ["reason"],
            registry=registry,
        )
        for reason in _REASONS:
            self._refused.labels(reason)

    def count(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def wrong(self, reason: str, address: str) -> float:
        """Count what `address` showed; 0.0, or the seconds that it is to wait: it was wrong too often."""
        wait = self._failures.take(client_of(address))
        self.count("too often" if wait else reason)
        return wait
