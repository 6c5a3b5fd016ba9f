"""What a raw image becomes: the one way from bytes to pixels, shared by conversion and prediction.

`decode` is that way: sniff the format by content -> check the header's limits -> decode to gray -> orient -> crop ->
resize with antialias -> contrast and brightness -> uint8. Each failure is an ImageRejected with a reason of a
closed set.
"""

import re
import struct
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.budget import Budget
from schemas.dicom import StoredValues, read_dicom
from schemas.dicom_elements import is_deflated
from schemas.errors import UsageError
from schemas.raster import Gray, read_jpeg, read_with_pillow
from schemas.rejection import ImageRejected, ImageSkipped, Reason, SkipReason
from schemas.sniff import sniff
from schemas.structure import Admit

__all__ = [
    "MOST_BYTES",
    "RESIZE_MODES",
    "Decoded",
    "ImageRejected",
    "ImageSettings",
    "ImageSkipped",
    "Reason",
    "SkipReason",
    "decode",
    "sniff",
]

RESIZE_MODES = ("stretch", "letterbox", "crop")
SMALLEST_SIDE = 2
# Bytes that the threads take for decoding at a time, and the most that a single image may, its file included: 8 threads
# that all meet images of 100 megapixels, and hold files (beam_jobs/images.py), stay below 1 GiB together with the 180 MB
# of the process itself. Photographs of everyday size never wait.
BYTES_AT_A_TIME, MOST_BYTES = 320_000_000, 700_000_000


@dataclass(frozen=True)
class ImageSettings:
    """How a raw image becomes a tensor. Stored in the manifest and in a model's run folder.

    image_size: height and width of the result, in pixels.
    channels: 1, or 3 for the gray channel three times.
    resize_mode: "stretch" to the square, "letterbox" (black borders) or "crop" (the centre square).
    crop: fraction of each side that is kept, from the centre, before the resize.
    brightness: added to every pixel, as a fraction of the full range: -1 to 1.
    contrast: factor applied around mid-gray (127.5), before brightness is added.
    max_pixels: larger images are rejected from their header.
    allow_burned_in: take DICOM images whose BurnedInAnnotation is YES (text, often a name, in the pixels).
    max_aspect: images are rejected whose longer side is more than so many times the shorter.
    """

    image_size: int = 64
    channels: int = 1
    resize_mode: str = "stretch"
    crop: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0
    max_pixels: int = 100_000_000
    allow_burned_in: bool = False
    max_aspect: float = 20.0

    def __post_init__(self) -> None:
        def check(flag: str, allowed: bool, rule: str) -> None:
            if not allowed:
                raise UsageError(f"--{flag} {getattr(self, flag)!r}: must be {rule}")

        check("image_size", isinstance(self.image_size, int) and 8 <= self.image_size <= 4096, "8 to 4096 pixels")
        check("channels", self.channels in (1, 3), "1 or 3")
        check("resize_mode", self.resize_mode in RESIZE_MODES, f"one of {', '.join(RESIZE_MODES)}")
        check("crop", 0.1 <= self.crop <= 1, "a fraction from 0.1 to 1")
        check("brightness", -1 <= self.brightness <= 1, "from -1 to 1")
        check("contrast", 0 < self.contrast <= 10, "above 0, up to 10")
        check("max_pixels", isinstance(self.max_pixels, int) and self.max_pixels >= 1, "a whole number from 1")
        check("max_aspect", self.max_aspect >= 1, "1 or more")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the result."""
        return self.image_size, self.image_size, self.channels


class Decoded(NamedTuple):
    """`pixels`: uint8 [H, W, C]. `format`: jpeg, png, tiff, bmp, gif, webp or dicom. `notes`: what to count."""

    pixels: NDArray[np.uint8]
    format: str
    notes: tuple[str, ...]


_in_memory = Budget(BYTES_AT_A_TIME)


def decode(data: bytes, settings: ImageSettings, stored_values: StoredValues | None = None) -> Decoded:
    """The tensor of one image file: uint8 [H, W, C], a function of `data` and `settings` alone, in any thread.
    `stored_values`: a DICOM decoder instead of pydicom's.

    Eight-bit images keep their levels. Deeper ones (16-bit PNG and TIFF, float TIFF) are scaled from their own least
    to their own greatest value, because a 10- or 12-bit radiograph in such a file says its depth nowhere; a constant
    one is black. For DICOM see schemas/dicom.py. Alpha is flattened on black. Colour becomes ITU-R 601 luma.

    Raises ImageRejected where the file cannot or must not be used, ImageSkipped for DICOM objects that are no images,
    and nothing else whatever the bytes.
    """
    _quiet_warnings()
    format = sniff(data)
    with ExitStack() as held:
        waited = False

        def admit(width: int, height: int, bytes_a_pixel: int = 0) -> None:
            nonlocal waited
            _check_size(width, height, settings)
            needed = width * height * bytes_a_pixel
            if len(data) + needed > MOST_BYTES:
                detail = (
                    f"{width}x{height} would take {needed >> 20} MiB to decode, beside {len(data) >> 20} MiB of file"
                )
                raise ImageRejected(Reason.TOO_MANY_PIXELS, detail)
            if needed and not waited:
                held.enter_context(_in_memory.take(needed))
                waited = True

        try:
            if format == "dicom" and is_deflated(data):  # it must be inflated to know its size
                held.enter_context(_in_memory.take(BYTES_AT_A_TIME))
                waited = True
            gray = _read(data, format, settings, admit, stored_values)
            return Decoded(_finish(gray, settings), format, gray.notes)
        except ImageSkipped:
            raise
        except ImageRejected as rejected:
            rejected.format = format
            raise
        # From here on the third parties' own texts are dropped, chained ones included: they can quote attributes.
        except MemoryError:
            raise ImageRejected(Reason.OUT_OF_MEMORY, "the decoder ran out of memory", format) from None
        except Image.DecompressionBombError:
            raise ImageRejected(Reason.TOO_MANY_PIXELS, "a part is larger than Pillow allows", format) from None
        except Exception as error:
            cut = isinstance(error, (EOFError, struct.error)) or "truncated" in str(error).lower()
            reason = Reason.TRUNCATED if cut else Reason.DAMAGED
            raise ImageRejected(reason, f"the decoder failed with {type(error).__name__}", format) from None


def _read(data: bytes, format: str, settings: ImageSettings, admit: Admit, stored_values: StoredValues | None) -> Gray:
    if format == "dicom":
        return read_dicom(data, admit, settings.max_pixels, settings.allow_burned_in, stored_values)
    if format == "jpeg":
        # Twice the target, so that the resize decides what the pixels become and not the coarser scaling in the DCT.
        side = ceil(2 * settings.image_size / settings.crop)
        return read_jpeg(data, admit, side, longer_only=settings.resize_mode == "letterbox")
    return read_with_pillow(data, admit, format)


def _check_size(width: int, height: int, settings: ImageSettings) -> None:
    size = f"{width}x{height}"
    if width * height > settings.max_pixels:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{size} is above the limit of {settings.max_pixels} pixels")
    if min(width, height) < SMALLEST_SIDE:
        raise ImageRejected(Reason.TOO_SMALL, f"{size}; the shorter side needs {SMALLEST_SIDE}")
    if max(width, height) > settings.max_aspect * min(width, height):
        raise ImageRejected(Reason.BAD_ASPECT, f"{size} is longer than {settings.max_aspect:g}:1")


def _finish(gray: Gray, settings: ImageSettings) -> NDArray[np.uint8]:
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


def _levels(image: Image.Image, low: float, high: float, settings: ImageSettings) -> NDArray[np.uint8]:
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

    A filter by module is added once and stays: `warnings.catch_warnings` would swap the process's filters under the
    other decoding threads. It is put back in front where somebody has since set others, as pytest does for each test.
    """
    if warnings.filters[:1] != [("ignore", None, Warning, _NOISY, 0)]:
        warnings.filterwarnings("ignore", module=_NOISY.pattern)
