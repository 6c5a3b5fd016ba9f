"""Reads PNG files with Pillow, after the checks that Pillow leaves out."""

import struct
import zlib
from collections.abc import Iterator
from math import ceil

import numpy as np
from PIL import PngImagePlugin

from schemas.pixels.formats import raster
from schemas.pixels.formats.sixteen_bit import has_16_bit_samples, read_16_bit_samples
from schemas.pixels.gray import Admit, Gray, rows_of
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import ImageSettings

# The passes of Adam7: first column and row, and steps across and down (PNG specification, 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
_BIT_DEPTH, _INTERLACED = 24, 28  # offsets of these bytes in the file


def read(data: bytes, settings: ImageSettings, admit: Admit) -> Gray:
    """A PNG file that is whole and not animated."""
    _check_chunks(data, admit)
    image = raster.opened(PngImagePlugin.PngImageFile, data)
    sixteen_bit = has_16_bit_samples(image)
    raster.check_single(image, admit)
    if sixteen_bit:
        gray = read_16_bit_samples(image, raster.opened(PngImagePlugin.PngImageFile, data))
    else:
        image.load()
        if image.mode == "L" and "transparency" in image.info and data[_BIT_DEPTH] < 8:
            image.info["transparency"] *= 255 // ((1 << data[_BIT_DEPTH]) - 1)  # Pillow scales only the pixels
        gray = raster.flattened(image)
    last_row = rows_of(image, slice(image.height - 1, image.height))
    if data[_INTERLACED] or not np.asarray(last_row).any():
        _check_rows(data)
    return raster.oriented(gray, image)


def _check_chunks(data: bytes, admit: Admit) -> None:
    """Checks all chunks (PNG specification, 5.3): Pillow ignores the CRC of image data and a missing end."""
    for at, name, end in _chunks(data):
        if name == b"IHDR" and at == 8 and end <= len(data):
            admit(*struct.unpack_from(">LL", data, 16))
        if end > len(data):
            raise ImageRejected(Reason.TRUNCATED, f"a chunk ends {end - len(data)} bytes behind the end of the file")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageRejected(Reason.DAMAGED, f"the checksum of the chunk at byte {at} is wrong")


def _check_rows(data: bytes) -> None:
    """Inflates the whole image only to check its length, because Pillow leaves missing rows black."""
    width, height, bits, kind, _, _, interlaced = struct.unpack_from(">LLBBBBB", data, 16)
    missing = sum(
        rows * (1 + ceil(columns * bits * _SAMPLES.get(kind, 1) / 8))
        for x, y, across, down in (_ADAM7 if interlaced else ((0, 0, 1, 1),))
        if (columns := ceil((width - x) / across)) > 0 and (rows := ceil((height - y) / down)) > 0
    )
    inflate = zlib.decompressobj()
    for at, name, end in _chunks(data):
        content = data[at + 8 : end - 4] if name == b"IDAT" else b""
        while content and missing > 0:
            missing -= len(inflate.decompress(content, 1 << 20))
            content = inflate.unconsumed_tail
    if missing > 0:
        raise ImageRejected(Reason.TRUNCATED, f"the image data ends {missing} bytes early")


def _chunks(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The start, name and end of each chunk, up to and including IEND or the first incomplete chunk."""
    end, name = 8, b""
    while name != b"IEND" and end <= len(data):
        at, name = end, data[end + 4 : end + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield at, name, end
