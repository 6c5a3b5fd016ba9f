"""The size of an image, told by the process that decodes it: pixels are not all that people want to know of it, and no
other process may read its header.

The answer of a decoding process is a tensor (decoders/child.py), so the size comes as one of 8x8 pixels.
"""

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from schemas.pixels.decode import decode_as
from schemas.pixels.gray import Gray
from schemas.pixels.rejection import Decoded
from schemas.pixels.resize import upright
from schemas.pixels.settings import ImageSettings, PixelSettings

DECODER = f"{__name__}:decoder"
LONGEST = 4096  # pixels; a tensor of PixelSettings holds no more
_SIZE = struct.Struct("<II")
_SIDE = 8


def decoder() -> Callable[[bytes, ImageSettings], Decoded]:
    """What decoders/pool.py loads as DECODER."""
    return _measure


def settings_to_measure(settings: ImageSettings) -> ImageSettings:
    """The settings to give to DECODER, with the limits of `settings`."""
    pixels = PixelSettings(image_size=_SIDE)
    return replace(settings, **vars(pixels))


def settings_to_show(settings: ImageSettings, size: tuple[int, int]) -> ImageSettings:
    """The settings with which decode.py gives an image of `size` as it is, in the middle of a square."""
    return replace(settings, **vars(PixelSettings(image_size=max(*size, _SIDE), resize_mode="letterbox")))


def size_in(answer: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height of the upright image, from the answer of DECODER: its own, or reduced so that the longer side has
    LONGEST pixels. Raises ValueError for an answer that is none."""
    width, height = _SIZE.unpack_from(answer.tobytes())
    if not (0 < width <= LONGEST and 0 < height <= LONGEST):
        raise ValueError(f"{width}x{height}")
    return width, height


def _measure(data: bytes, settings: ImageSettings) -> Decoded:
    # A JPEG is read shrunk if the settings allow it.
    large = replace(settings, image_size=LONGEST, resize_mode="letterbox")
    return decode_as(_told, data, large)


def _told(gray: Gray, _settings: PixelSettings) -> NDArray[np.uint8]:
    image = upright(gray)
    scale = min(1.0, LONGEST / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    answer = np.zeros(_SIDE * _SIDE, np.uint8)
    answer[: _SIZE.size] = np.frombuffer(_SIZE.pack(width, height), np.uint8)
    return answer.reshape(_SIDE, _SIDE, 1)
