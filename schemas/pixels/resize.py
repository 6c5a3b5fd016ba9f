"""Turns one channel of any size and depth into the tensor: orient -> crop -> resize with antialiasing -> levels ->
uint8."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.pixels.gray import Gray
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import PixelSettings

# The rotation or reflection that turns an image of each EXIF orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Placement(NamedTuple):
    """Which part of an upright image is where in the tensor. box: left, top, right and bottom in the image, in its pixels.
    corner, size: x and y, width and height of that part in the tensor."""

    box: tuple[float, float, float, float]
    corner: tuple[int, int]
    size: tuple[int, int]


def placement(image_width: int, image_height: int, settings: PixelSettings) -> Placement:
    """The part of an upright image of this size that the tensor shows, and where."""
    side = settings.image_size
    width, height = image_width * settings.crop, image_height * settings.crop
    if settings.resize_mode == "crop":
        width = height = min(width, height)
    size = (side, side)
    if settings.resize_mode == "letterbox":
        scale = side / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (image_width - width) / 2, (image_height - height) / 2
    corner = (side - size[0]) // 2, (side - size[1]) // 2
    return Placement((left, top, left + width, top + height), corner, size)


def upright(gray: Gray) -> Image.Image:
    """The image of `gray`, oriented."""
    turn = _UPRIGHT.get(gray.orientation)
    return gray.image if turn is None else gray.image.transpose(turn)


def tensor_of(gray: Gray, settings: PixelSettings) -> NDArray[np.uint8]:
    """The tensor that the settings describe: uint8 [H, W, C]. Raises ImageRejected for pixels that are not finite
    numbers."""
    image = upright(gray)
    place = placement(image.width, image.height, settings)
    # The filter is a triangle as wide as the reduction: every source pixel counts, it leaves no halos beside bones as
    # Lanczos does, and after the DCT scaling it costs only 2% more than a plain box.
    small = image.resize(place.size, Image.Resampling.BILINEAR, place.box)

    result = np.zeros(settings.shape, np.uint8)
    (x, y), (width, height) = place.corner, place.size
    result[y : y + height, x : x + width] = _levels(small, gray.low, gray.high, settings)[:, :, np.newaxis]
    return result


def _levels(image: Image.Image, low: float, high: float, settings: PixelSettings) -> NDArray[np.uint8]:
    if image.mode == "L" and settings.contrast == 1 and settings.brightness == 0:
        return np.asarray(image)
    values = np.asarray(image, np.float64)
    if not (np.isfinite((low, high)).all() and np.isfinite(values).all()):
        raise ImageRejected(Reason.UNSUPPORTED, "pixels that are not finite numbers")
    values = (values - low) * (255 / (high - low)) if high != low else np.zeros_like(values)
    values = (values - 127.5) * settings.contrast + 127.5 + settings.brightness * 255
    return np.rint(values).clip(0, 255).astype(np.uint8)
