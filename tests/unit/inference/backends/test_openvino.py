"""The CPU backend, on the smallest of the real networks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monolith.inference.backends.base import BackendUnavailableError, FloatArray
from monolith.inference.backends.openvino import OpenVinoBackend, Precision
from monolith.inference.models.catalogue import weights_folder

SMALL = weights_folder() / "mini-xception-64.onnx"
FREE = weights_folder() / "centerface.onnx"


@pytest.fixture(scope="module")
def backend() -> OpenVinoBackend:
    return OpenVinoBackend(threads=1, precision="f32")


def faces(count: int) -> FloatArray:
    return np.random.default_rng(count).uniform(0, 255, (count, 64, 64, 1)).astype(np.float32)


def test_float32_is_what_it_says(backend: OpenVinoBackend) -> None:
    assert backend.compile(SMALL).precision == "f32"


def test_several_pictures_are_several_requests(backend: OpenVinoBackend) -> None:
    network, inputs = backend.compile(SMALL), faces(3)
    (together,) = network.run(inputs)
    alone = [network.run(inputs[n : n + 1])[0].copy() for n in range(3)]
    assert together.shape == (3, 7) and together.dtype == np.float32
    assert (together == np.concatenate(alone)).all()
    assert together.sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_outputs_are_chosen_and_ordered_by_name(backend: OpenVinoBackend) -> None:
    network = backend.compile(FREE, output_names=("offsets", "heatmap"))
    offsets, heatmap = network.run(np.zeros((1, 64, 96, 3), np.float32))
    assert offsets.shape == (1, 2, 16, 24) and heatmap.shape == (1, 1, 16, 24)


def test_without_names_come_all_outputs_in_the_files_order(backend: OpenVinoBackend) -> None:
    outputs = backend.compile(FREE).run(np.zeros((1, 32, 32, 3), np.float32))
    assert [output.shape[1] for output in outputs] == [1, 2, 2, 10]


def test_sizes_may_change_from_call_to_call(backend: OpenVinoBackend) -> None:
    network = backend.compile(FREE, output_names=("heatmap",))
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    first = network.run(pixels)[0].copy()
    assert network.run(np.zeros((1, 32, 160, 3), np.float32))[0].shape == (1, 1, 8, 40)
    assert (network.run(pixels)[0] == first).all()


def test_a_view_that_is_not_contiguous_is_read_right(backend: OpenVinoBackend) -> None:
    network, inputs = backend.compile(SMALL), faces(1)
    mirrored = network.run(inputs[:, :, ::-1])[0].copy()
    assert (network.run(np.ascontiguousarray(inputs[:, :, ::-1]))[0] == mirrored).all()


def test_auto_takes_bfloat16_where_it_is_native_and_agrees(backend: OpenVinoBackend) -> None:
    fast = OpenVinoBackend(threads=1, precision="auto").compile(SMALL)
    inputs = faces(4)
    assert fast.precision in ("bf16", "f32")
    tolerance = 0.05 if fast.precision == "bf16" else 0
    assert np.abs(fast.run(inputs)[0] - backend.compile(SMALL).run(inputs)[0]).max() <= tolerance


def without_bfloat16(self: object, device: str, name: str) -> list[str]:
    return ["FP32", "INT8"]


@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_a_processor_without_bfloat16_computes_in_float32(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openvino.Core.get_property", without_bfloat16)
    assert OpenVinoBackend(threads=1, precision=precision).compile(SMALL).precision == "f32"


def test_bfloat16_is_not_pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openvino.Core.get_property", without_bfloat16)
    with pytest.raises(
        BackendUnavailableError, match="does not compute in bf16; choose precision auto or f32"
    ):
        OpenVinoBackend(threads=1, precision="bf16")


def test_no_threads_is_an_error() -> None:
    with pytest.raises(ValueError, match="threads must be 1 or more, not 0"):
        OpenVinoBackend(threads=0)


def test_a_missing_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match="install the package `openvino`"):
        OpenVinoBackend(threads=1)


def test_no_telemetry_is_loaded_or_left_behind(tmp_path: Path) -> None:
    code = (
        "import sys; from monolith.inference.backends.openvino import OpenVinoBackend; "
        "assert 'openvino' not in sys.modules; OpenVinoBackend(threads=1); "
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert answer.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
