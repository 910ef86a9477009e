"""The table of measured figures, from benchmarks/results.json."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.__main__ import RESULTS, TARGETS
from tools.docs.markdown import code, table


def performance_table() -> str:
    """What was measured, where, and whether it reaches its target; a plain word where nothing was measured."""
    if not RESULTS.exists():
        return "Nothing has been measured yet: `./bench.sh` makes `benchmarks/results.json`."
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    figures: dict[str, float] = results["figures"]
    rows = [(code(name), f"{value:,g}", *_verdict(name, value)) for name, value in sorted(figures.items())]
    missing = [
        (code(name), "not measured", str(TARGETS[name]), "") for name in sorted(TARGETS.keys() - figures)
    ]
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    caption = f"Measured {results['measured']} on: {machine}."
    return f"{caption}\n\n{table(('figure', 'measured', 'target', ''), [*rows, *missing])}"


def _verdict(name: str, value: float) -> tuple[str, str]:
    target = TARGETS.get(name)
    if target is None:
        return "", ""
    return str(target), "met" if target.met(value) else "missed"
