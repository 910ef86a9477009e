"""Which models there are, what their weights must be, and how to load one.

Engines and OpenCV are imported only by `load`, that is in the worker.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from monolith.domain.models import DEFAULT_THRESHOLDS, ModelIdentity

if TYPE_CHECKING:
    from monolith.inference.backends.base import Backend
    from monolith.inference.models.base import Model


class WeightsError(Exception):
    """A weight file is missing or is not the one that this version was built with."""


class WeightFile(msgspec.Struct, frozen=True):
    """A committed file and the sha256 that it must have."""

    name: str
    sha256: str


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model before it is loaded.

    Detections of at least `floor` (confidence 0–1) are stored, of at least `threshold` shown by default.
    `reads` says what the network sees of a picture.
    """

    key: str
    name: str
    version: str
    files: tuple[WeightFile, ...]
    threshold: float
    floor: float
    reads: str

    @property
    def digest(self) -> str:
        """The file's sha256; of several files, of their digests in order; without files, of name and version."""
        if len(self.files) == 1:
            return self.files[0].sha256
        text = "".join(file.sha256 for file in self.files) or f"{self.name} {self.version}"
        return hashlib.sha256(text.encode()).hexdigest()


class FileCheck(NamedTuple):
    """One weight file compared with what it must be; `actual` is None where it is missing."""

    file: str
    ok: bool
    expected: str
    actual: str | None


NANODET: Final = WeightFile(
    "nanodet-g-416.onnx", "299e7370f9bf888541e17f0d86b05b4addf17dea882c07b1455ab35ae334fa5e"
)
CENTERFACE: Final = WeightFile(
    "centerface.onnx", "f4e8ef16a117abfe1c2292f6d77dc321660c21fa3420e06322a7d26d266b1ba7"
)
MINI_XCEPTION: Final = WeightFile(
    "mini-xception-64.onnx", "f8cda824bde2c1bb027e263f97ff97ab37c3272f6698492bbad98a06954f284a"
)

CATALOGUE: Final[dict[str, ModelSpec]] = {
    spec.key: spec
    for spec in (
        ModelSpec(
            key="color_detection",
            name="k-means-3",
            version="1",
            files=(),
            threshold=DEFAULT_THRESHOLDS["color_detection"],
            floor=0.0,
            reads="all pixels of a thumbnail of at most 128 × 128",
        ),
        ModelSpec(
            key="emotions_detection",
            name="centerface+mini-xception",
            version="1",
            files=(CENTERFACE, MINI_XCEPTION),
            threshold=DEFAULT_THRESHOLDS["emotions_detection"],
            floor=0.2,
            reads="RGB, longer side at most 640, padded to multiples of 32; each face as 64 × 64 grey",
        ),
        ModelSpec(
            key="objects_detection",
            name="nanodet-g-416",
            version="1",
            files=(NANODET,),
            threshold=DEFAULT_THRESHOLDS["objects_detection"],
            floor=0.1,
            reads="RGB in its own shape, about 416 × 416 pixels in all, sides multiples of 32 of at most 544",
        ),
    )
}
"""`modelsToRun` name → its model."""


def weights_folder() -> Path:
    """Where the committed weights lie."""
    return Path(__file__).parents[1] / "weights"


def verify(folder: Path | None = None) -> list[FileCheck]:
    """Compare every weight file of the catalogue with its sha256. Reads 15 MB: not on an event loop."""
    folder = folder or weights_folder()
    return [_check(folder, file) for spec in CATALOGUE.values() for file in spec.files]


def load(key: str, backend: Backend, *, infer_from: str, folder: Path | None = None) -> Model:
    """The model for a `modelsToRun` name, its networks compiled by `backend`.

    `infer_from` (`stored` or `source`) is only recorded in the model's identity.
    Raises `KeyError` (no such model), `WeightsError`, and what the backend raises.
    """
    spec = CATALOGUE[key]
    paths = [_trusted(folder or weights_folder(), file) for file in spec.files]
    return _BUILDERS[key](spec, backend, paths, infer_from)


def _check(folder: Path, file: WeightFile) -> FileCheck:
    path = folder / file.name
    actual = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    return FileCheck(file.name, actual == file.sha256, file.sha256, actual)


def _trusted(folder: Path, file: WeightFile) -> Path:
    check = _check(folder, file)
    if not check.ok:
        what = "is missing" if check.actual is None else f"has sha256 {check.actual}"
        raise WeightsError(f"{folder / file.name} {what}; it must be the file with sha256 {file.sha256}")
    return folder / file.name


def _identity(spec: ModelSpec, precision: str, infer_from: str) -> ModelIdentity:
    return ModelIdentity(
        key=spec.key,
        name=spec.name,
        version=spec.version,
        digest=spec.digest,
        precision=precision,
        infer_from=infer_from,
    )


def _load_colors(spec: ModelSpec, backend: Backend, paths: list[Path], infer_from: str) -> Model:
    from monolith.inference.models.colors import ColorsModel

    return ColorsModel(_identity(spec, "f32", infer_from))


def _load_emotions(spec: ModelSpec, backend: Backend, paths: list[Path], infer_from: str) -> Model:
    from monolith.inference.models import emotions, faces

    finder = backend.compile(paths[0], output_names=faces.OUTPUTS)
    judge = backend.compile(paths[1], output_names=emotions.OUTPUTS)
    return emotions.EmotionsModel(
        faces.FaceFinder(finder, floor=spec.floor, limit=emotions.FACES),
        judge,
        _identity(spec, finder.precision, infer_from),
    )


def _load_objects(spec: ModelSpec, backend: Backend, paths: list[Path], infer_from: str) -> Model:
    from monolith.inference.models.objects import OUTPUTS, ObjectsModel

    network = backend.compile(paths[0], output_names=OUTPUTS)
    return ObjectsModel(network, _identity(spec, network.precision, infer_from), floor=spec.floor)


_BUILDERS: Final = {
    "color_detection": _load_colors,
    "emotions_detection": _load_emotions,
    "objects_detection": _load_objects,
}
