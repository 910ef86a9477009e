"""What the catalogue promises of the committed files, and that it loads nothing else."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monolith.domain.models import DEFAULT_THRESHOLDS, MODEL_KEYS
from monolith.inference.backends.openvino import OpenVinoBackend
from monolith.inference.models.catalogue import CATALOGUE, WeightsError, load, verify, weights_folder
from monolith.inference.models.coco import COCO_LABELS
from tools import build_weights


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return Path(shutil.copytree(weights_folder(), tmp_path / "weights"))


def corrupt(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_the_committed_files_are_the_right_ones() -> None:
    checks = verify()
    assert [check.file for check in checks] == [
        "centerface.onnx",
        "mini-xception-64.onnx",
        "nanodet-g-416.onnx",
    ]
    assert all(check.ok and check.actual == check.expected for check in checks)
    assert {file.name for file in weights_folder().glob("*.onnx")} == {check.file for check in checks}


def test_the_committed_files_are_small() -> None:
    assert sum(file.stat().st_size for file in weights_folder().iterdir()) < 15.5e6


def test_a_flipped_bit_and_a_missing_file_are_told(copies: Path) -> None:
    corrupt(copies / "nanodet-g-416.onnx")
    (copies / "centerface.onnx").unlink()
    found = {check.file: (check.ok, check.actual is None) for check in verify(copies)}
    assert found == {
        "centerface.onnx": (False, True),
        "mini-xception-64.onnx": (True, False),
        "nanodet-g-416.onnx": (False, False),
    }


def test_a_wrong_file_is_not_loaded(copies: Path, backend: OpenVinoBackend) -> None:
    corrupt(copies / "mini-xception-64.onnx")
    with pytest.raises(WeightsError, match=r"mini-xception-64\.onnx has sha256 [0-9a-f]{64}; it must be"):
        load("emotions_detection", backend, infer_from="stored", folder=copies)
    (copies / "mini-xception-64.onnx").unlink()
    with pytest.raises(WeightsError, match=r"mini-xception-64\.onnx is missing"):
        load("emotions_detection", backend, infer_from="stored", folder=copies)


def test_an_unknown_model_is_a_key_error(backend: OpenVinoBackend) -> None:
    with pytest.raises(KeyError):
        load("smell_detection", backend, infer_from="stored")


@pytest.mark.parametrize("key", MODEL_KEYS)
def test_a_loaded_model_says_what_it_is(key: str, backend: OpenVinoBackend) -> None:
    model = load(key, backend, infer_from="source")
    model.warm_up()
    spec = CATALOGUE[key]
    assert (model.identity.key, model.identity.name, model.identity.digest) == (key, spec.name, spec.digest)
    assert (model.identity.precision, model.identity.infer_from) == ("f32", "source")


def test_every_model_has_a_spec() -> None:
    assert set(CATALOGUE) == set(MODEL_KEYS)
    for key, spec in CATALOGUE.items():
        assert spec.key == key and spec.floor <= spec.threshold == DEFAULT_THRESHOLDS[key]
        assert len(spec.digest) == 64


def test_the_digest_of_two_files_is_that_of_their_digests() -> None:
    spec = CATALOGUE["emotions_detection"]
    text = spec.files[0].sha256 + spec.files[1].sha256
    assert spec.digest == hashlib.sha256(text.encode()).hexdigest()


def test_the_readme_names_every_file_with_its_hash() -> None:
    lines = (weights_folder() / "README.md").read_text().splitlines()
    for spec in CATALOGUE.values():
        for file in spec.files:
            (line,) = (line for line in lines if line.startswith(f"| `{file.name}`"))
            assert f"`{file.sha256}`" in line


def test_the_catalogue_loads_no_engine() -> None:
    code = "import sys, monolith.inference.models.catalogue; print({'openvino', 'cv2', 'numpy'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "set()"


def test_coco_has_its_eighty_labels() -> None:
    assert len(set(COCO_LABELS)) == len(COCO_LABELS) == 80
    assert [COCO_LABELS[n] for n in (0, 2, 5, 9, 27, 72, 79)] == [
        "person",
        "car",
        "bus",
        "traffic light",
        "tie",
        "refrigerator",
        "toothbrush",
    ]


def test_the_tool_checks_offline(copies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_weights.main(["--check"]) == 0
    corrupt(copies / "centerface.onnx")
    assert build_weights.main(["--check", "--folder", str(copies)]) == 1
    assert "centerface.onnx: WRONG: " in capsys.readouterr().out


def test_the_tool_refuses_other_sources() -> None:
    with pytest.raises(build_weights.WrongHashError, match=r"^a has sha256 .*, not 00$"):
        build_weights.expect("a", b"content", "00")
