"""JPEG in and out, and the size at which frames are stored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import simplejpeg

Picture = npt.NDArray[np.uint8]
"""Height × width × 3, RGB, 0–255."""


class JpegError(ValueError):
    """The bytes are not a JPEG that can be decoded as asked."""


def encode(picture: Picture, quality: int) -> bytes:
    """`picture` (C-contiguous) as JFIF, colour at half resolution (4:2:0), `quality` 1–100."""
    data: bytes = simplejpeg.encode_jpeg(picture, quality=quality, colorspace="RGB", colorsubsampling="420")
    return data


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header alone. Raises JpegError."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise JpegError(f"not a JPEG: {error}") from error
    return int(width), int(height)


def decode(data: bytes) -> Picture:
    """Raises JpegError."""
    width, height = size(data)
    picture: Picture = np.empty((height, width, 3), np.uint8)
    decode_into(data, picture)
    return picture


def decode_into(data: bytes, picture: Picture) -> None:
    """Decode into `picture`, whose shape must be the JPEG's. Raises JpegError."""
    width, height = size(data)
    if picture.shape != (height, width, 3):
        raise JpegError(f"JPEG of {width}×{height} for a picture of shape {picture.shape}")
    try:
        simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=picture)
    except ValueError as error:
        raise JpegError(f"damaged JPEG: {error}") from error


def scaled_size(width: int, height: int, max_height: int) -> tuple[int, int]:
    """Width and height (pixels) at a height of at most `max_height`, keeping the aspect ratio; never enlarged, never 0.

    Raises ValueError for sizes below 1.
    """
    if min(width, height, max_height) < 1:
        raise ValueError(f"{width}×{height} at most {max_height} high: sizes start at 1")
    if height <= max_height:
        return width, height
    return max(1, round(width * max_height / height)), max_height


def fitted_size(width: int, height: int, max_height: int, max_bytes: int) -> tuple[int, int]:
    """As `scaled_size`, and small enough that the RGB picture fits `max_bytes` (at least 3)."""
    width, height = scaled_size(width, height, max_height)
    if width * height * 3 <= max_bytes:
        return width, height
    factor = (max_bytes / (width * height * 3)) ** 0.5
    height = max(1, int(height * factor))
    width = max(1, min(int(width * factor), max_bytes // (3 * height)))
    return width, min(height, max_bytes // (3 * width))
