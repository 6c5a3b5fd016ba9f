"""What a raw image becomes: the one way from bytes to pixels, shared by conversion and prediction.

`decode` is that way: sniff the format by content -> check the header's limits -> decode to gray -> orient -> crop ->
resize with antialias -> contrast and brightness -> uint8. Each failure is an ImageRejected with a reason of a
closed set. It runs in the children of decoders/pool.py only, and loads the decoders of a format with its first file.
"""

import re
import resource
import struct
import warnings
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.pixels.completeness import Admit
from schemas.pixels.raster import Gray, read_jpeg, read_with_pillow
from schemas.pixels.rejection import Decoded, ImageRejected, ImageSkipped, Reason
from schemas.pixels.settings import ImageSettings, Limits, PixelSettings
from schemas.pixels.sniff import sniff

if TYPE_CHECKING:
    from schemas.pixels.dicom.read import StoredValues

SMALLEST_SIDE = 2
# Formats whose decoders do not say that they ran out of memory, and the bytes that they take for a pixel, as measured.
_MUTE = {"webp": 15, "dicom": 15}


def decoder() -> Callable[[bytes, ImageSettings], Decoded]:
    """`decode`, for a decoders/pool.py that is given no other."""
    return decode


def decode(data: bytes, settings: ImageSettings) -> Decoded:
    """The tensor of one image file: uint8 [H, W, C], a function of `data` and `settings` alone.

    Eight-bit images keep their levels. Deeper ones (16-bit PNG and TIFF, float TIFF) are scaled from their own least
    to their own greatest value, because a 10- or 12-bit radiograph in such a file says its depth nowhere; a constant
    one is black. For DICOM see schemas/pixels/dicom/read.py. Alpha is flattened on black. Colour becomes ITU-R 601 luma.

    Raises ImageRejected where the file cannot or must not be used, ImageSkipped for DICOM objects that are no images,
    and nothing else whatever the bytes, unless it ends or stops the process: see decoders/pool.py.
    """
    return decode_with(data, settings, None)


def decode_with(data: bytes, settings: ImageSettings, stored_values: "StoredValues | None") -> Decoded:
    """The same, with a DICOM decoder instead of pydicom's."""
    _quiet_warnings()
    format = sniff(data)
    most_pixels = 0

    def admit(width: int, height: int) -> None:
        nonlocal most_pixels
        _check_size(width, height, settings)
        most_pixels = max(most_pixels, width * height)

    try:
        gray = _read(data, format, settings, admit, stored_values)
        return Decoded(_finish(gray, settings), format, gray.notes)
    except ImageSkipped:
        raise
    except ImageRejected as rejected:
        rejected.format = format
        raise
    # From here on the third parties' own texts are dropped, chained ones included: they can quote attributes.
    except MemoryError:
        raise ImageRejected(Reason.OUT_OF_MEMORY, "it takes more than --decoder_memory", format) from None
    except Image.DecompressionBombError:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, "a part is larger than Pillow allows", format) from None
    except Exception as error:
        if format in _MUTE and most_pixels * _MUTE[format] > _room():
            raise ImageRejected(Reason.OUT_OF_MEMORY, "it takes more than --decoder_memory", format) from None
        cut = isinstance(error, (EOFError, struct.error)) or "truncated" in str(error).lower()
        reason = Reason.TRUNCATED if cut else Reason.DAMAGED
        raise ImageRejected(reason, f"the decoder failed with {type(error).__name__}", format) from None


def _read(
    data: bytes, format: str, settings: ImageSettings, admit: Admit, stored_values: "StoredValues | None"
) -> Gray:
    if format == "dicom":
        from schemas.pixels.dicom.read import read_dicom  # loads pydicom, which takes longer than all the others

        return read_dicom(data, admit, settings.max_pixels, settings.allow_burned_in, stored_values)
    if format == "jpeg":
        # Twice the target, so that the resize decides what the pixels become and not the coarser scaling in the DCT.
        side = ceil(2 * settings.image_size / settings.crop)
        return read_jpeg(data, admit, side, longer_only=settings.resize_mode == "letterbox")
    return read_with_pillow(data, admit, format)


def _room() -> float:
    """The bytes that this process may still take."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _check_size(width: int, height: int, limits: Limits) -> None:
    size = f"{width}x{height}"
    if width * height > limits.max_pixels:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{size} is above the limit of {limits.max_pixels} pixels")
    if min(width, height) < SMALLEST_SIDE:
        raise ImageRejected(Reason.TOO_SMALL, f"{size}; the shorter side needs {SMALLEST_SIDE}")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise ImageRejected(Reason.BAD_ASPECT, f"{size} is longer than {limits.max_aspect:g}:1")


def _finish(gray: Gray, settings: PixelSettings) -> NDArray[np.uint8]:
    image, side = gray.image, settings.image_size
    if gray.orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[gray.orientation])
    # The filter is a triangle as wide as the reduction: every source pixel counts, no halo beside bones as Lanczos
    # leaves, and after the DCT scaling it costs 2% more than a plain box.
    width, height = image.width * settings.crop, image.height * settings.crop
    if settings.resize_mode == "crop":
        width = height = min(width, height)
    size = (side, side)
    if settings.resize_mode == "letterbox":
        scale = side / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (image.width - width) / 2, (image.height - height) / 2
    small = image.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))

    result = np.zeros(settings.shape, np.uint8)
    x, y = (side - size[0]) // 2, (side - size[1]) // 2
    result[y : y + size[1], x : x + size[0]] = _levels(small, gray.low, gray.high, settings)[:, :, np.newaxis]
    return result


# The turn or mirroring that makes an image of each EXIF orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _levels(image: Image.Image, low: float, high: float, settings: PixelSettings) -> NDArray[np.uint8]:
    if image.mode == "L" and settings.contrast == 1 and settings.brightness == 0:
        return np.asarray(image)
    values = np.asarray(image, np.float64)
    if not (np.isfinite((low, high)).all() and np.isfinite(values).all()):
        raise ImageRejected(Reason.UNSUPPORTED, "pixels that are not finite numbers")
    values = (values - low) * (255 / (high - low)) if high != low else np.zeros_like(values)
    values = (values - 127.5) * settings.contrast + 127.5 + settings.brightness * 255
    return np.rint(values).clip(0, 255).astype(np.uint8)


# Warnings are raised in these modules, or (stacklevel) in those that call them: ours.
_NOISY = re.compile(r"(PIL|pydicom|pylibjpeg|libjpeg|openjpeg|schemas)\b")


def _quiet_warnings() -> None:
    """Keeps the decoders' warnings about odd files (they quote values of attributes) from stderr and from `-W error`.

    A filter by module is added once and stays; it is put back in front where somebody has since set others, as pytest
    does for each test.
    """
    if warnings.filters[:1] != [("ignore", None, Warning, _NOISY, 0)]:
        warnings.filterwarnings("ignore", module=_NOISY.pattern)
