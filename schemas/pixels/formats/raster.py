"""Reads BMP, GIF and WebP files with Pillow. Also holds what all readers that use Pillow share."""

import io
import logging

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageChops, WebPImagePlugin
from PIL.ImageFile import ImageFile

from schemas.pixels.gray import Admit, Gray, rows_of, strips
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import ImageSettings

# Pillow logs the values of TIFF tags at DEBUG.
logging.getLogger("PIL").setLevel(logging.CRITICAL)

# WebP takes 15 bytes per pixel: the canvases of libwebp's animation decoder, which Pillow always uses, then Pillow's
# own.
WEBP_PIXELS = 30_000_000


def read_bmp(data: bytes, settings: ImageSettings, admit: Admit) -> Gray:
    """A BMP file. It has no orientation."""
    return _read(opened(BmpImagePlugin.BmpImageFile, data), admit)


def read_gif(data: bytes, settings: ImageSettings, admit: Admit) -> Gray:
    """A GIF file that is not animated. It has no orientation."""
    return _read(opened(GifImagePlugin.GifImageFile, data), admit)


def read_webp(data: bytes, settings: ImageSettings, admit: Admit) -> Gray:
    """A WebP file that is whole and not animated."""
    _check_webp(data, admit)
    image = opened(WebPImagePlugin.WebPImageFile, data)
    return oriented(_read(image, admit), image)


def _read(image: ImageFile, admit: Admit) -> Gray:
    check_single(image, admit)
    image.load()
    return flattened(image)


def opened(plugin: type[ImageFile], data: bytes) -> ImageFile:
    """The image, not loaded yet. Raises ImageRejected for samples that Pillow does not read."""
    # The plugin's class is used instead of Image.open: it accepts no other format, and Pillow's process-wide pixel
    # limit, which warns at 89 megapixels, does not get in the way of ours.
    try:
        return plugin(io.BytesIO(data))
    except SyntaxError as error:
        if str(error) in ("unknown pixel mode", "unknown data organization"):
            raise ImageRejected(Reason.UNSUPPORTED, "samples of a number, type or size that is not read") from None
        raise


def check_single(image: ImageFile, admit: Admit, several: Reason = Reason.ANIMATED) -> None:
    """Calls `admit` with the size that Pillow found. Raises ImageRejected for a file with more than one image, because
    Pillow loads only the first."""
    admit(*image.size)
    if getattr(image, "is_animated", False):
        raise ImageRejected(several, "the file holds more than one image")


def flattened(image: ImageFile) -> Gray:
    """A loaded image as gray, with alpha flattened onto black. Converts it in strips, so that no second copy in colour
    is needed."""
    if image.mode in ("I", "F"):
        low, high = np.ravel(image.getextrema()).tolist()
        return Gray(image, low, high)
    if image.mode == "L" and not image.has_transparency_data:
        return Gray(image)
    luma = Image.new("L", image.size)
    for rows in strips(*image.size):
        strip = rows_of(image, rows)
        if image.has_transparency_data:
            strip = strip.convert("RGBA")
            luma.paste(ImageChops.multiply(strip.convert("L"), strip.getchannel("A")), (0, rows.start))
        else:
            luma.paste(strip.convert("L"), (0, rows.start))
    return Gray(luma)


def oriented(gray: Gray, image: ImageFile) -> Gray:
    """`gray` with the orientation that the EXIF tags of the loaded `image` give."""
    return gray._replace(orientation=image.getexif().get(0x0112, 1))


def _check_webp(data: bytes, admit: Admit) -> None:
    """Checks the size in the first chunk (RFC 9649), because Pillow's reader allocates the canvas before its size can
    be read."""
    missing = int.from_bytes(data[4:8], "little") + 8 - len(data)
    if missing > 0:
        raise ImageRejected(Reason.TRUNCATED, f"the file needs {missing} bytes more")
    kind, sizes = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(sizes[at : at + 3], "little") for at in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(sizes[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(sizes[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    admit(width, height)
    if width * height > WEBP_PIXELS:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{width}x{height} is above the {WEBP_PIXELS} pixels for WebP")
