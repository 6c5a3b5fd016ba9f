"""JPEG, PNG, TIFF, BMP, GIF and WebP files to gray images, strictly: what a decoder would repair is refused.

JPEG goes to libjpeg-turbo, which shrinks large images while it decodes them; the others go to Pillow, after the checks
that Pillow leaves out.
"""

import io
import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageChops, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from schemas.rejection import ImageRejected, Reason

# WebP takes 15 bytes a pixel: the canvases of libwebp's animation decoder, which Pillow always uses, then Pillow's own.
WEBP_PIXELS = 30_000_000

# Pillow takes memory for large images in blocks of 16 MiB, which glibc keeps for each thread after they are freed: a
# hundred megabytes a thread. Blocks above 32 MiB it gives back.
Image.core.set_block_size(1 << 26)  # type: ignore[attr-defined]

# Pillow logs the values of TIFF tags at DEBUG.
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class Gray(NamedTuple):
    """One channel, not yet oriented: `image` has mode L, I;16, I or F; `low` becomes black and `high` white.
    `orientation` is EXIF's (CIPA DC-008, tag 0x0112): 1 to 8, 1 for upright."""

    image: Image.Image
    low: float = 0.0
    high: float = 255.0
    orientation: int = 1
    notes: tuple[str, ...] = ()


# Called with width and height before any pixel is decoded; raises ImageRejected for a size that must not be.
Admit = Callable[[int, int], None]

_PILLOW = {
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
}


def read_jpeg(data: bytes, admit: Admit, side: int, longer_only: bool) -> Gray:
    """Strict: what libjpeg repairs with a warning (a missing end, bytes that do not decode) is an error here.

    libjpeg shrinks by eighths in the DCT, for a fraction of the time, as long as each side (`longer_only`: the longer
    one) keeps `side` pixels.
    """
    orientation, adobe, has_scan = 1, False, False
    for marker, payload in jpeg_segments(data):
        if marker == 0xE1 and payload[:6] == b"Exif\0\0":
            orientation = _exif_orientation(payload[6:])
        adobe = adobe or (marker == 0xEE and payload[:5] == b"Adobe")
        has_scan = has_scan or marker == 0xDA
        if is_jpeg_frame(marker) and (marker > 0xC2 or payload[:1] != b"\x08"):
            raise ImageRejected(Reason.UNSUPPORTED, f"JPEG process {marker - 0xC0}, {payload[:1].hex()} bits")
    if not has_scan:
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
        reason = Reason.TRUNCATED if "premature end of jpeg" in str(error).lower() else Reason.DAMAGED
        raise ImageRejected(reason, str(error)[:200]) from None
    if pixels.shape[2] == 1:
        return Gray(Image.fromarray(pixels[:, :, 0]), orientation=orientation)
    # Adobe writes the four inks inverted, and its marker is how every reader knows.
    size = pixels.shape[1], pixels.shape[0]
    inks = Image.frombuffer("CMYK", size, pixels, "raw", "CMYK;I" if adobe else "CMYK", 0, 1)
    return Gray(inks.convert("RGB").convert("L"), orientation=orientation)


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
    if format == "png":
        _check_png(data, admit)
    if format == "webp":
        _check_webp(data)
    # The plugin's class instead of Image.open: no other format can be taken, and Pillow's process-wide pixel limit,
    # which warns at 89 megapixels, stays out of the way of ours.
    image = _PILLOW[format](io.BytesIO(data))
    admit(*image.size)
    if getattr(image, "is_animated", False):
        reason = Reason.MULTI_FRAME if format == "tiff" else Reason.ANIMATED
        raise ImageRejected(reason, "the file holds more than one image")
    image.load()
    orientation = 1 if format in ("gif", "bmp") else image.getexif().get(0x0112, 1)
    return _flatten(image)._replace(orientation=orientation)


def _flatten(image: Image.Image) -> Gray:
    if image.mode == "I;16B":
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in ("I;16", "I", "F"):
        low, high = np.ravel(image.getextrema()).tolist()
        return Gray(image, low, high)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        return Gray(ImageChops.multiply(image.convert("L"), image.getchannel("A")))
    return Gray(image.convert("L"))


def _check_png(data: bytes, admit: Admit) -> None:
    """Walks the chunks (PNG specification, 5.3): Pillow checks no CRC of image data and misses no missing end."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if kind == b"IHDR" and at == 8 and end <= len(data):
            admit(*struct.unpack_from(">LL", data, at + 8))
        if end > len(data):
            raise ImageRejected(Reason.TRUNCATED, f"a chunk ends {end - len(data)} bytes behind the end of the file")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageRejected(Reason.DAMAGED, f"the checksum of the chunk at byte {at} is wrong")
        at = end


def _check_webp(data: bytes) -> None:
    """Size from the first chunk (RFC 9649): Pillow's reader takes memory for the canvas before it can be asked."""
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
    if width * height > WEBP_PIXELS:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{width}x{height} is above the {WEBP_PIXELS} pixels for WebP")
