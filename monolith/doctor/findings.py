"""What the doctor finds, and how it looks: every check in a thread of its own, each with its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

Level: TypeAlias = Literal["ok", "warning", "problem"]

DEADLINE: Final = 8.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`found`: what is so; `help`: what would make it right, empty where nothing is wrong."""

    check: str
    level: Level
    found: str
    help: str = ""


class Check(NamedTuple):
    """`run` blocks and says what it found, in order; what it raises is a finding, too."""

    name: str
    run: Callable[[], Iterable[Finding]]
    deadline: float = DEADLINE


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, level="ok", found=found)


def warning(check: str, found: str, help: str) -> Finding:
    return Finding(check=check, level="warning", found=found, help=help)


def problem(check: str, found: str, help: str) -> Finding:
    return Finding(check=check, level="problem", found=found, help=help)


def examine(checks: Sequence[Check]) -> list[Finding]:
    """All at once; in their order. One that hangs is left behind: its thread holds nobody up."""
    started = time.monotonic()
    running = [_Running(check) for check in checks]
    return [finding for one in running for finding in one.findings(started)]


class _Running:
    def __init__(self, check: Check) -> None:
        self._check = check
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, name=f"check {check.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self._check.run():
                self._found.append(finding)
        except Exception as error:
            text = f"the check failed: {type(error).__name__}: {error}"
            self._found.append(problem(self._check.name, text, "report this: the check itself is at fault"))

    def findings(self, started: float) -> list[Finding]:
        self._thread.join(max(0.0, started + self._check.deadline - time.monotonic()))
        if not self._thread.is_alive():
            return self._found
        text = f"no answer within {self._check.deadline:g} s"
        slow = problem(self._check.name, text, "see whether a disk or the machine hangs, or is overloaded")
        return [*self._found, slow]


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is a problem; warnings are none."""
    return all(finding.level != "problem" for finding in findings)
