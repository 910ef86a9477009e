"""What OpenVINO computes in on this machine: `python -m monolith.doctor.precision` prints it as JSON.

A process of its own: the engine starts threads, takes a second to load, and may not like the processor.
"""

from __future__ import annotations

import sys

import msgspec

from monolith.inference.backends.base import BackendUnavailableError
from monolith.inference.backends.openvino import OpenVinoBackend


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """`error`: why there is no engine, "" where there is one."""

    version: str = ""
    device: str = ""
    bf16: bool = False
    error: str = ""


def look() -> EngineState:
    try:
        backend = OpenVinoBackend(threads=1, precision="f32")
    except BackendUnavailableError as error:
        return EngineState(error=str(error))
    version, device, bf16 = backend.describe()
    return EngineState(version=version, device=device, bf16=bf16)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(look()))
