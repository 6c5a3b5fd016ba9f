"""The picture in all image files that tests make."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ("Zebedee^Quill", "MRN-8812-QX", "Dr^Farthing", "Saint Osyth Infirmary", "19410203")

chosen = 0  # the variant, changed by `variant`, so that a folder can hold many files of one kind without duplicates


def variant(make: Callable[[], bytes], number: int) -> bytes:
    """The file that `make` makes, with `number` (0 to 2047; 0 for none) in its picture or its identifier."""
    global chosen
    chosen = number
    try:
        return make()
    finally:
        chosen = 0


def scene(height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """A smooth picture that differs from its rotations and mirror images: uint8 [height, width], 20 to 235."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    smooth = 20 + 100 * x * x + 70 * y + 45 * np.exp(-30 * ((x - 0.3) ** 2 + (y - 0.2) ** 2))
    for bit in range(11):  # a row of bright dots in the middle
        if chosen >> bit & 1:
            smooth[height // 2 : height // 2 + 4, width // 20 + 4 * bit : width // 20 + 4 * bit + 4] = 235
    pixels: NDArray[np.uint8] = np.rint(smooth).astype(np.uint8)
    return pixels


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def picture(format: str, mode: str = "L", **options: Any) -> bytes:
    """`scene()` in another format and mode."""
    return saved(Image.fromarray(scene()).convert(mode), format, **options)
