"""An inference worker whose models do what they are told: by their names at the start, by pixels for each frame.

Names: `plain`; `slow:SECONDS` a frame; `late:SECONDS` to load; `gated:PATH` is loaded when that file is there;
`missing` fails to load; `changing` has another digest in every process.
The first byte of a frame is one of the actions below, the second comes back as `class_id`, the third is the number of
workers that a `MORTAL` frame still ends before it is judged, or not 0 while a `HELD` one is not to be judged yet.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from monolith.child import ParentGoneError
from monolith.domain.detection import Detection, ObjectDetection
from monolith.domain.models import ModelIdentity
from monolith.inference.worker import Model, WorkerConfig, main

ANSWER: Final = 0
RAISE: Final = 1
EXIT: Final = 2
SEGFAULT: Final = 3
HANG: Final = 4
FREEZE: Final = 5
MORTAL: Final = 6
HELD: Final = 7


class ScriptedModel:
    def __init__(self, key: str) -> None:
        self._script, _, self._argument = key.partition(":")
        self._key = key
        self._version = "cold"
        if self._script == "late":
            time.sleep(float(self._argument))
        while self._script == "gated" and not Path(self._argument).exists():
            time.sleep(0.005)
        if self._script == "missing":
            raise FileNotFoundError("the weights of 'missing' are not there: run `models pull`")

    @property
    def identity(self) -> ModelIdentity:
        digest = f"{os.getpid():064x}" if self._script == "changing" else "0" * 64
        return ModelIdentity(
            key=self._key,
            name=self._key,
            version=self._version,
            digest=digest,
            precision="f32",
            infer_from="stored",
        )

    def warm_up(self) -> None:
        self._version = "warm"

    def detect(self, rgb: npt.NDArray[np.uint8], /) -> tuple[Detection, ...]:
        action, number = int(rgb[0, 0, 0]), int(rgb[0, 0, 1])
        if self._script == "slow":
            time.sleep(float(self._argument))
        if action == MORTAL and rgb[0, 0, 2] > 0:
            rgb[0, 0, 2] -= 1
            os._exit(3)
        while action == HELD and rgb[0, 0, 2] > 0:
            time.sleep(0.002)
        _act(action)
        return (ObjectDetection(class_id=number, class_name="number", confidence=1.0, xyxy=(0, 0, 1, 1)),)


def _act(action: int) -> None:
    if action == RAISE:
        raise ValueError("this frame is bad")
    if action == EXIT:
        os._exit(3)
    if action == SEGFAULT:
        os.kill(os.getpid(), signal.SIGSEGV)
    if action == HANG:
        time.sleep(3600)
    if action == FREEZE:
        os.kill(os.getpid(), signal.SIGSTOP)


def load_scripted(config: WorkerConfig) -> Mapping[str, Model]:
    return {key: ScriptedModel(key) for key in config.models}


if __name__ == "__main__":
    try:
        main(sys.argv[1:], load_scripted)
    except ParentGoneError:
        sys.exit(0)
