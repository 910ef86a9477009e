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
        """`inputs` → its outputs, float32, in the order of `output_names` or else of the file.

        Every network of the catalogue takes N × H × W × C with values 0–255 and normalises them itself. The inputs
        are only read during the call; the outputs may be views that the next call overwrites.
        """
        ...


class Backend(Protocol):
    """Compiles ONNX files. Raises `BackendUnavailableError` when made on a machine that cannot run it."""

    name: str

    def compile(self, model: Path, *, output_names: Sequence[str] = ()) -> CompiledNetwork:
        """Compile `model` for inputs whose N, H and W may change from call to call (where its file leaves them free).

        `output_names` choose and order the outputs.
        """
        ...


class BackendUnavailableError(Exception):
    """This machine lacks what the backend needs; the message says what and how to get it."""
