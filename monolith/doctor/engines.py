"""Codecs and inference, each looked at in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import msgspec

from monolith.doctor.codecs import CodecState
from monolith.doctor.findings import Finding, ok, problem, warning
from monolith.doctor.precision import EngineState
from monolith.settings import Settings
from monolith.settings_loading import variable

_SECONDS: Final = 7.0
_NEEDED: Final = "H.264"
_REINSTALL: Final = "install `av` from PyPI again: its wheels bring all codecs"


def codecs(module: str = "monolith.doctor.codecs") -> Iterator[Finding]:
    """What can be decoded and encoded."""
    output, end = _run(module)
    states = {state.name: state for state in map(_state, output.splitlines())}
    works = [f"{s.name}{' (decode only)' if not s.encoder else ''}" for s in states.values() if s.decodes]
    if works:
        yield ok("codecs", f"decode and encode: {', '.join(works)}")
    for state in states.values():
        if state.tried and not state.decodes:
            yield _broken(state.name, state.error)
        elif not state.tried:
            yield _broken(state.name, f"the codec {end or 'ended without an answer'}")
    if not states:
        yield problem("codecs", f"nothing can be decoded: {end or 'no answer'}", _REINSTALL)


def _state(line: bytes) -> CodecState:
    return msgspec.json.decode(line, type=CodecState)


def _broken(name: str, error: str) -> Finding:
    make = problem if name == _NEEDED else warning
    return make("codecs", f"{name} does not work: {error}", _REINSTALL)


def inference(settings: Settings, module: str = "monolith.doctor.precision") -> Iterator[Finding]:
    """The engine, and the precision that will be used."""
    output, end = _run(module)
    try:
        engine = msgspec.json.decode(output, type=EngineState)
    except msgspec.DecodeError:
        engine = EngineState(error=f"the engine {end or 'gave no answer'}")
    if engine.error:
        yield problem(
            "inference", engine.error, "install `openvino` again; it needs an x86-64 or ARM64 processor"
        )
        return
    if settings.precision == "bf16" and not engine.bf16:
        found = f"bf16 was asked for, and {engine.device} does not compute in it"
        yield problem("inference", found, f"set {variable('precision')} to auto or f32")
        return
    used = "bf16" if engine.bf16 and settings.precision != "f32" else "f32"
    native = "bf16 is native" if engine.bf16 else "no native bf16"
    yield ok("inference", f"OpenVINO {engine.version} on the CPU ({native}); precision {used} will be used")


def _run(module: str) -> tuple[bytes, str]:
    """Standard output of a module, and how it ended where that was not in order."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            capture_output=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as slow:
        return slow.stdout or b"", f"did not answer within {_SECONDS:g} s"
    if done.returncode < 0:
        return done.stdout, f"crashed (signal {-done.returncode})"
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        return done.stdout, f"failed: {words[-1] if words else done.returncode}"
    return done.stdout, ""
