"""Networks on the CPU, by OpenVINO. The engine is loaded when a backend is made, never at import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from monolith.inference.backends.base import BackendUnavailableError, FloatArray

Precision: TypeAlias = Literal["auto", "f32", "bf16"]

_PRECISION_NAMES: Final = {"f32": "f32", "float32": "f32", "bf16": "bf16", "bfloat16": "bf16", "f16": "f16"}


class OpenVinoNetwork:
    """A network on the CPU with one request. Free dimensions may change from call to call; a shape that is new
    costs one slower call (tens of milliseconds)."""

    def __init__(self, engine: Any, compiled: Any, output_names: Sequence[str]) -> None:
        self._tensor = engine.Tensor
        self._request = compiled.create_infer_request()
        self._outputs = [compiled.output(name) for name in output_names] or list(compiled.outputs)
        self.precision = _precision_of(compiled)

    def run(self, inputs: FloatArray) -> list[FloatArray]:
        """See the port. Pictures go through one by one: a CPU gains nothing from batches."""
        if len(inputs) == 1:
            return self._run_one(inputs)
        copies = [[output.copy() for output in self._run_one(inputs[n : n + 1])] for n in range(len(inputs))]
        return [np.concatenate(parts) for parts in zip(*copies, strict=True)]

    def _run_one(self, inputs: FloatArray) -> list[FloatArray]:
        pixels = np.ascontiguousarray(inputs)  # the request only borrows it, so it must outlive `infer`
        self._request.set_input_tensor(self._tensor(pixels, shared_memory=True))
        self._request.infer()
        return [self._request.get_tensor(output).data for output in self._outputs]


class OpenVinoBackend:
    """Compiles for the CPU with `threads` threads.

    `precision`: `f32` gives equal answers on every machine; `bf16` is about twice as fast where the processor
    computes in it; `auto` takes bf16 there and f32 elsewhere.
    Raises `BackendUnavailableError`: OpenVINO is not installed, or bf16 was asked of a processor without it.
    """

    name = "openvino"

    def __init__(self, *, threads: int, precision: Precision = "auto") -> None:
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        self._engine = _load_engine()
        self._core = self._engine.Core()
        self._properties = {
            "INFERENCE_PRECISION_HINT": self._choose(precision),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # or every process pins itself to the same first core
        }

    def compile(self, model: Path, *, output_names: Sequence[str] = ()) -> OpenVinoNetwork:
        """See the port. `output_names` choose and order the outputs; without them, all in the file's order."""
        network = self._core.read_model(model)
        compiled = self._core.compile_model(network, "CPU", self._properties)
        return OpenVinoNetwork(self._engine, compiled, output_names)

    def describe(self) -> tuple[str, str, bool]:
        """The engine's version, the processor's name, and whether it computes in bf16."""
        version: str = self._engine.__version__
        return (
            version.partition("-")[0],
            self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            self._native_bf16(),
        )

    def _native_bf16(self) -> bool:
        return "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def _choose(self, precision: Precision) -> str:
        native = self._native_bf16()
        if precision == "bf16" and not native:
            raise BackendUnavailableError(
                "this processor does not compute in bf16; choose precision auto or f32"
            )
        return "bf16" if native and precision != "f32" else "f32"


def _load_engine() -> Any:
    """Import OpenVINO without its telemetry, which sends an event over the network as soon as it is imported.

    An entry None in `sys.modules` makes `import openvino_telemetry` fail, and OpenVINO falls back on its own stub.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise BackendUnavailableError("OpenVINO is missing: install the package `openvino`") from error
    return openvino


def _precision_of(compiled: Any) -> str:
    return _PRECISION_NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()]
