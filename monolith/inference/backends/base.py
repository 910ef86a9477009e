"""The port between a model's own code (pre- and post-processing) and the engine that runs its network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class CompiledNetwork(Protocol):
    """A network ready to run. Not for use by several threads at once."""

    precision: str
    """What it really computes in: `f32`, `bf16` or `f16`."""

    def run(self, inputs: FloatArray) -> list[FloatArray]:
        """`inputs` (N × C × H × W or N × H × W × C, as the network wants) → its outputs in the file's order, float32.

        The outputs may be views that the next call overwrites.
        """
        ...


class Backend(Protocol):
    """Compiles ONNX files. Raises `BackendUnavailableError` when made on a machine that cannot run it."""

    name: str

    def compile(self, model: Path, *, output_names: Sequence[str] = ()) -> CompiledNetwork:
        """Compile `model` for inputs whose shape may change from call to call."""
        ...


class BackendUnavailableError(Exception):
    """This machine lacks what the backend needs; the message says what and how to get it."""
