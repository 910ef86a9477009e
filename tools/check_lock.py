"""Checks the lock files without a network: `python -m tools.check_lock`.

Every requirement of pyproject.toml is locked to a version that it allows, the development lock agrees with the runtime
one, and every locked package that belongs on this machine is installed in just that version.
"""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, TypeAlias

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
Locked: TypeAlias = dict[str, list[Requirement]]
"""Name → its pins; several where versions differ by Python or platform."""


def read_lock(path: Path) -> Locked:
    """The pins of a lock file."""
    locked: Locked = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", " ")):
            pin = Requirement(line.rstrip("\\ "))
            locked[canonicalize_name(pin.name)].append(pin)
    return dict(locked)


def wanted() -> tuple[list[Requirement], list[Requirement]]:
    """What pyproject.toml asks for: at run time, and for development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = [Requirement(text) for text in project["dependencies"]]
    return runtime, runtime + [Requirement(text) for text in project["optional-dependencies"]["dev"]]


def unsatisfied(requirements: list[Requirement], locked: Locked, name: str) -> list[str]:
    """Requirements that the lock lacks or pins to a version that they do not allow."""
    problems: list[str] = []
    for requirement in requirements:
        pins = locked.get(canonicalize_name(requirement.name), [])
        allowed = [p for p in pins if requirement.specifier.contains(_pinned(p), prereleases=True)]
        if not pins or len(allowed) < len(pins):
            problems.append(f"{name} does not satisfy {requirement}: run tools/lock.sh")
    return problems


def disagreeing(runtime: Locked, dev: Locked) -> list[str]:
    """Packages that the two locks pin differently."""
    return [
        f"{name}: requirements.lock and requirements-dev.lock differ: run tools/lock.sh"
        for name, pins in runtime.items()
        if set(map(str, pins)) - set(map(str, dev.get(name, [])))
    ]


def not_installed(locked: Locked) -> list[str]:
    """Locked packages that this environment lacks or has in another version."""
    problems: list[str] = []
    for name, pins in locked.items():
        here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
        for pin in here:
            try:
                found = version(name)
            except PackageNotFoundError:
                found = "nothing"
            if found != _pinned(pin):
                problems.append(f"{name}: locked {_pinned(pin)}, installed {found}")
    return problems


def _pinned(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    return specifier.version


def main() -> int:
    runtime, dev = read_lock(ROOT / "requirements.lock"), read_lock(ROOT / "requirements-dev.lock")
    for_runtime, for_dev = wanted()
    problems = [
        *unsatisfied(for_runtime, runtime, "requirements.lock"),
        *unsatisfied(for_dev, dev, "requirements-dev.lock"),
        *disagreeing(runtime, dev),
        *not_installed(dev),
    ]
    print("\n".join(problems) or f"{len(dev)} packages as locked")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
