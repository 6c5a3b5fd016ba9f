"""Reads JPEG files with libjpeg-turbo, which shrinks large images while it decodes them.

Decoding is strict: what libjpeg repairs with a warning (a missing end, bytes that do not decode) is an error here.
"""

import struct
from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from schemas.pixels.gray import Admit, Gray
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import ImageSettings


def read(data: bytes, settings: ImageSettings, admit: Admit) -> Gray:
    """A JPEG file, shrunk as far as the settings allow."""
    # Twice the target, so that the resize determines the pixels, not the coarser scaling in the DCT.
    side = ceil(2 * settings.image_size / settings.crop)
    return read_stream(data, admit, side, longer_only=settings.resize_mode == "letterbox")


def read_stream(data: bytes, admit: Admit, side: int, longer_only: bool) -> Gray:
    """A JPEG stream. libjpeg shrinks it by eighths in the DCT as long as each side (`longer_only`: the longer one)
    keeps `side` pixels. This takes a fraction of the time."""
    header = _header(data)
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
        raise ImageRejected(_reason(str(error).lower()), str(error)[:200]) from None
    if pixels.shape[2] == 1:
        return Gray(Image.fromarray(pixels[:, :, 0]), orientation=header.orientation)
    return Gray(_without_inks(pixels, header.adobe), orientation=header.orientation)


class _Header(NamedTuple):
    orientation: int
    adobe: bool


def _header(data: bytes) -> _Header:
    """Raises ImageRejected if no scan begins, or if libjpeg does not decode the JPEG process to eight bits."""
    orientation, adobe, scanned = 1, False, False
    for marker, payload in segments(data):
        if marker == 0xE1 and payload[:6] == b"Exif\0\0":
            orientation = _exif_orientation(payload[6:])
        adobe = adobe or (marker == 0xEE and payload[:5] == b"Adobe")
        if is_frame(marker) and (marker > 0xC2 or payload[:1] != b"\x08"):
            raise ImageRejected(Reason.UNSUPPORTED, f"JPEG process {marker - 0xC0}, {payload[:1].hex()} bits")
        scanned = scanned or (marker == 0xDA and payload[0] > 0)
    if not scanned:
        raise ImageRejected(Reason.TRUNCATED, "the file ends in its header")
    return _Header(orientation, adobe)


def _without_inks(pixels: NDArray[np.uint8], adobe: bool) -> Image.Image:
    # Adobe writes the four inks inverted; readers recognise its files by its marker.
    size = pixels.shape[1], pixels.shape[0]
    inks = Image.frombuffer("CMYK", size, pixels, "raw", "CMYK;I" if adobe else "CMYK", 0, 1)
    return inks.convert("RGB").convert("L")


def _reason(message: str) -> Reason:
    if "insufficient memory" in message:
        return Reason.OUT_OF_MEMORY
    return Reason.TRUNCATED if "premature end of jpeg" in message else Reason.DAMAGED


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker code and payload of each segment of a JPEG or JPEG-LS stream, through the first scan's header (SOS, 0xDA).

    ITU-T T.81 B.1. Stops without an error where the stream breaks off or has anything but a marker where a marker
    belongs.
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


def is_frame(marker: int) -> bool:
    """Whether the segment is a frame header (SOF0 to SOF15, or JPEG-LS's SOF55), which holds precision, height, width,
    ..."""
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
        pass  # Damaged metadata does not affect the pixels: show them upright, as browsers do.
    return 1
