"""JPEG, PNG, TIFF, BMP, GIF and WebP files to gray images, strictly: what a decoder would repair is refused.

JPEG goes to libjpeg-turbo, which shrinks large images while it decodes them; the others go to Pillow, after the checks
that Pillow leaves out.
"""

import io
import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageChops, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from schemas.pixels.completeness import Admit, check_png, check_png_rows, check_tiff, check_webp
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.sixteen_bit import is_deep, part, read_deep

# Pillow logs the values of TIFF tags at DEBUG.
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class Gray(NamedTuple):
    """One channel, not yet oriented: `image` has mode L, I;16, I or F; `low`, least or greatest, becomes black and
    `high` white.
    `orientation` is EXIF's (CIPA DC-008, tag 0x0112): 1 to 8, 1 for upright."""

    image: Image.Image
    low: float = 0.0
    high: float = 255.0
    orientation: int = 1
    notes: tuple[str, ...] = ()


_PILLOW = {
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
}


_CHECKS: Mapping[str, Callable[[bytes, Admit], None]] = {"png": check_png, "tiff": check_tiff, "webp": check_webp}
_BIT_DEPTH, _INTERLACED = 24, 28  # of a PNG, in its bytes


def read_jpeg(data: bytes, admit: Admit, side: int, longer_only: bool) -> Gray:
    """Strict: what libjpeg repairs with a warning (a missing end, bytes that do not decode) is an error here.

    libjpeg shrinks by eighths in the DCT, for a fraction of the time, as long as each side (`longer_only`: the longer
    one) keeps `side` pixels.
    """
    orientation, adobe, scanned = 1, False, False
    for marker, payload in jpeg_segments(data):
        if marker == 0xE1 and payload[:6] == b"Exif\0\0":
            orientation = _exif_orientation(payload[6:])
        adobe = adobe or (marker == 0xEE and payload[:5] == b"Adobe")
        if is_jpeg_frame(marker) and (marker > 0xC2 or payload[:1] != b"\x08"):
            raise ImageRejected(Reason.UNSUPPORTED, f"JPEG process {marker - 0xC0}, {payload[:1].hex()} bits")
        scanned = scanned or (marker == 0xDA and payload[0] > 0)
    if not scanned:
        raise ImageRejected(Reason.TRUNCATED, "the file ends in its header")
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        admit(int(width), int(height))
        pixels = simplejpeg.decode_jpeg(
            data,
            "CMYK" if colorspace in ("CMYK", "YCCK") else "GRAY",
            min_height=0 if longer_only and height < width else side,
            min_width=0 if longer_only and width <= height else side,
        )
    except ValueError as error:
        # libjpeg's messages hold numbers and names of markers only.
        raise ImageRejected(_jpeg_reason(str(error).lower()), str(error)[:200]) from None
    if pixels.shape[2] == 1:
        return Gray(Image.fromarray(pixels[:, :, 0]), orientation=orientation)
    # Adobe writes the four inks inverted, and its marker is how every reader knows.
    size = pixels.shape[1], pixels.shape[0]
    inks = Image.frombuffer("CMYK", size, pixels, "raw", "CMYK;I" if adobe else "CMYK", 0, 1)
    return Gray(inks.convert("RGB").convert("L"), orientation=orientation)


def _jpeg_reason(message: str) -> Reason:
    if "insufficient memory" in message:
        return Reason.OUT_OF_MEMORY
    return Reason.TRUNCATED if "premature end of jpeg" in message else Reason.DAMAGED


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker code and payload of each segment of a JPEG or JPEG-LS stream, through the first scan's header (SOS, 0xDA).

    ITU-T T.81 B.1. A stream that breaks off, or has anything but a marker where one belongs, just ends.
    """
    at = 2
    for _ in range(2000):
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] == 0xD9:
            return
        if data[at + 1] == 0xFF:
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            return
        yield data[at + 1], data[at + 4 : end]
        if data[at + 1] == 0xDA:
            return
        at = end


def is_jpeg_frame(marker: int) -> bool:
    """Whether the segment is a frame header (SOF0 to SOF15, or JPEG-LS's SOF55): precision, height, width, ..."""
    return (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7


def _exif_orientation(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHLH", tiff, start + 2 + 12 * entry)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        pass  # Damaged metadata does no harm to the pixels: they are upright, as browsers show them.
    return 1


def read_with_pillow(data: bytes, admit: Admit, format: str) -> Gray:
    """The one image of a file whose `format` is known from its content."""
    if format in _CHECKS:
        _CHECKS[format](data, admit)
    image = _opened(data, format)
    deep = format in ("png", "tiff") and is_deep(image)
    admit(*image.size)
    if getattr(image, "is_animated", False):
        reason = Reason.MULTI_FRAME if format == "tiff" else Reason.ANIMATED
        raise ImageRejected(reason, "the file holds more than one image")
    if deep:
        gray = Gray(*read_deep(image, _opened(data, format)))
    else:
        image.load()
        gray = _flatten(image, data)
    if format == "png":
        last_row = part(image, image.height - 1, image.height)
        if data[_INTERLACED] or not np.asarray(last_row).any():
            check_png_rows(data)
    return gray._replace(orientation=1 if format in ("gif", "bmp") else image.getexif().get(0x0112, 1))


def _opened(data: bytes, format: str) -> ImageFile:
    # The plugin's class instead of Image.open: no other format can be taken, and Pillow's process-wide pixel limit,
    # which warns at 89 megapixels, stays out of the way of ours.
    try:
        return _PILLOW[format](io.BytesIO(data))
    except SyntaxError as error:
        if str(error) in ("unknown pixel mode", "unknown data organization"):
            raise ImageRejected(Reason.UNSUPPORTED, "samples of a number, type or size that is not read") from None
        raise


def _flatten(image: ImageFile, data: bytes) -> Gray:
    """`image` as gray, in strips, so that no second copy of it in colour is needed."""
    if image.mode in ("I", "F"):
        low, high = np.ravel(image.getextrema()).tolist()
        return Gray(image, low, high)
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info and data[_BIT_DEPTH] < 8:
        image.info["transparency"] *= 255 // ((1 << data[_BIT_DEPTH]) - 1)  # Pillow scales the pixels only
    if image.mode == "L" and not image.has_transparency_data:
        return Gray(image)
    luma = Image.new("L", image.size)
    rows = (1 << 17) // image.width + 1
    for top in range(0, image.height, rows):
        strip = part(image, top, min(top + rows, image.height))
        if image.has_transparency_data:
            strip = strip.convert("RGBA")
            luma.paste(ImageChops.multiply(strip.convert("L"), strip.getchannel("A")), (0, top))
        else:
            luma.paste(strip.convert("L"), (0, top))
    return Gray(luma)
