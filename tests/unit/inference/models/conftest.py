"""The real models on this machine's CPU, loaded once."""

from __future__ import annotations

import pytest

from monolith.inference.backends.openvino import OpenVinoBackend
from monolith.inference.models.catalogue import load
from monolith.inference.models.colors import ColorsModel
from monolith.inference.models.emotions import EmotionsModel
from monolith.inference.models.objects import ObjectsModel


@pytest.fixture(scope="session")
def backend() -> OpenVinoBackend:
    return OpenVinoBackend(threads=2, precision="f32")


@pytest.fixture(scope="session")
def objects(backend: OpenVinoBackend) -> ObjectsModel:
    model = load("objects_detection", backend, infer_from="stored")
    assert isinstance(model, ObjectsModel)
    return model


@pytest.fixture(scope="session")
def emotions(backend: OpenVinoBackend) -> EmotionsModel:
    model = load("emotions_detection", backend, infer_from="stored")
    assert isinstance(model, EmotionsModel)
    return model


@pytest.fixture(scope="session")
def colors(backend: OpenVinoBackend) -> ColorsModel:
    model = load("color_detection", backend, infer_from="stored")
    assert isinstance(model, ColorsModel)
    return model
