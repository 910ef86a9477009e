"""All benchmarks, one after another: a table, and `benchmarks/results.json` with the machine that they ran on.

python -m benchmarks [NAME…]      names: those in `NAMES`
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

RESULTS: Final = Path(__file__).with_name("results.json")
NAMES: Final = (
    "event_store", "read_models", "rebuild", "results_api", "analytics", "retention", "pipeline", "sources",
    "rtmp_parse", "rtmp_four", "detection", "playback", "glass", "whip", "kurrentdb", "relay", "copies",
    "soak",
)  # fmt: skip


class Target(msgspec.Struct, frozen=True):
    """What a figure must reach: at least (`least`) or at most (`most`)."""

    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:,g}"


USAGE: Final = f"""usage: ./bench.sh [--help] [NAME…]

Runs benchmarks, one after another: all of them, or those that are named. Each figure is shown with its target, and kept
in benchmarks/{RESULTS.name}; figures of benchmarks that do not run stay as they are.

Names: {" ".join(NAMES)}"""

TARGETS: Final = {
    "event_store.appended_at_128_per_s": Target(least=35_000),
    "event_store.read_and_decoded_per_s": Target(least=250_000),
    "read_models.frame_results_per_s": Target(least=30_000),
    "rebuild.alone_frame_results_per_s": Target(least=30_000),
    "rebuild.beside_frame_results_per_s": Target(least=30_000),
    "rebuild.beside_p99_ms": Target(most=50),
    "results_api.first_byte_ms": Target(most=30),
    "results_api.whole_ms": Target(most=150),
    "analytics.timeline_ms": Target(most=60),
    "analytics.parquet_ms": Target(most=1000),
    "retention.seconds": Target(most=30),
    "retention.api_p99_ms": Target(most=50),
    "sources.analysed_per_s": Target(least=19.5),
    "sources.lost_share": Target(most=0.01),
    "playback.further_viewer_to_encoding": Target(most=0.25),
    "playback.further_viewer_of_encoder_to_encoding": Target(most=0.25),
    "playback.first_picture_passed_ms": Target(most=1000),
    "playback.first_picture_encoded_ms": Target(most=1000),
    "glass.p50_ms": Target(most=120),
    "relay.confirmed_per_s": Target(least=2_500),
    "relay.lost": Target(most=0),
    "relay.disordered": Target(most=0),
    "copies.gain_to_bare": Target(least=0.9),
    "rtmp_parse.chunks_4096_mbit_per_s": Target(least=500),
    "rtmp_parse.chunks_4096_with_audio_mbit_per_s": Target(least=500),
    "rtmp_parse.chunks_128_mbit_per_s": Target(least=200),
    "rtmp_parse.chunks_128_with_audio_mbit_per_s": Target(least=200),
    "rtmp_parse.mixed_128_mbit_per_s": Target(least=200),
    "rtmp_four.cores": Target(most=1),
    "rtmp_four.pictures_per_s": Target(least=115),
    "detection.p50_ms": Target(most=150),
    "detection.p95_ms": Target(most=400),
    "whip.glass_p50_ms": Target(most=120),
    "pipeline.program_to_bare": Target(least=0.88),
    "pipeline.program_to_plain": Target(least=1.25),
    "pipeline.api_p99_ms": Target(most=50),
    "pipeline.loop_lag_p99_ms": Target(most=25),
    "pipeline.main_process_mb": Target(most=500),
    "kurrentdb.added_share": Target(most=0.25),
    "soak.most_mb": Target(most=500),
    "soak.growth_mb": Target(most=25),
}


def machine() -> dict[str, object]:
    """What the figures depend on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": found[1] if found else platform.processor(),
        "cores": os.cpu_count(),
        "bfloat16": "avx512_bf16" in Path("/proc/cpuinfo").read_text(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def main(names: list[str]) -> None:
    """Run the named benchmarks (all, by default) and keep the figures of the others; or show the usage."""
    if {"-h", "--help"} & set(names):
        print(USAGE)
        return
    unknown = set(names) - set(NAMES)
    if unknown:
        sys.exit(
            f"unknown benchmark {', '.join(sorted(unknown))}; there are: {' '.join(NAMES)} (--help says more)"
        )
    kept: dict[str, object] = json.loads(RESULTS.read_text())["figures"] if RESULTS.exists() else {}
    for name in names or NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        run: Callable[[], Awaitable[dict[str, float]]] = import_module(f"benchmarks.{name}").run
        figures = asyncio.run(_figures(run))
        kept.update({f"{name}.{key}": round(value, 3) for key, value in figures.items()})
        for key, value in figures.items():
            print(line(f"{name}.{key}", value), flush=True)
    report = {"measured": time.strftime("%Y-%m-%d"), "machine": machine(), "figures": kept}
    RESULTS.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


async def _figures(run: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    return await run()


def line(name: str, value: float) -> str:
    """A row of the table."""
    target = TARGETS.get(name)
    verdict = "" if target is None else f"{target!s:>12}  {'met' if target.met(value) else 'MISSED'}"
    return f"{name:44} {value:14,.2f} {verdict}".rstrip()


if __name__ == "__main__":
    main(sys.argv[1:])
