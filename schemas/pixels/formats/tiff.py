"""Reads TIFF and BigTIFF files with Pillow, after the checks that Pillow leaves out."""

import struct
from math import ceil

from PIL import TiffImagePlugin

from schemas.pixels.formats import raster
from schemas.pixels.formats.sixteen_bit import has_16_bit_samples, read_16_bit_samples
from schemas.pixels.gray import Admit, Gray
from schemas.pixels.rejection import ImageRejected, Reason
from schemas.pixels.settings import ImageSettings

# TIFF tags, and the struct codes of TIFF's integer types.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIPS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_READ = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES}
_READ |= {_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES}
_NUMBERS = {3: "H", 4: "L", 16: "Q"}


def read(data: bytes, settings: ImageSettings, admit: Admit) -> Gray:
    """The one image of a TIFF file that is whole."""
    _check_strips(data, admit)
    image = raster.opened(TiffImagePlugin.TiffImageFile, data)
    sixteen_bit = has_16_bit_samples(image)
    raster.check_single(image, admit, Reason.MULTI_FRAME)
    if sixteen_bit:
        return raster.oriented(read_16_bit_samples(image, raster.opened(TiffImagePlugin.TiffImageFile, data)), image)
    image.load()
    return raster.oriented(raster.flattened(image), image)


def _check_strips(data: bytes, admit: Admit) -> None:
    """Checks that the first directory and all strips or tiles that it needs are there (TIFF 6.0, sections 2, 3 and 15;
    BigTIFF), because Pillow ignores truncated entries and leaves missing strips black."""
    tags = _tags(data)

    def first(tag: int, otherwise: int) -> int:
        return tags.get(tag, (otherwise,))[0]

    width, height, samples = first(_WIDTH, 0), first(_HEIGHT, 0), first(_SAMPLES_PER_PIXEL, 1)
    admit(width, height)
    planes = samples if first(_PLANAR, 1) == 2 else 1
    if _TILES in tags:
        offsets, counts = tags[_TILES], tags.get(_TILE_BYTES, ())
        columns, rows = first(_TILE_WIDTH, 0) or width, first(_TILE_HEIGHT, 0) or height
        admit(columns, rows)  # libtiff allocates memory for a whole tile
    else:
        offsets, counts = tags.get(_STRIPS, ()), tags.get(_STRIP_BYTES, ())
        columns, rows = width, min(first(_ROWS_PER_STRIP, height) or height, height)
    expected = ceil(height / rows) * ceil(width / columns) * planes
    if len(offsets) < expected:
        raise ImageRejected(Reason.TRUNCATED, f"{len(offsets)} of {expected} strips or tiles are there")
    most = len(data)
    if first(_COMPRESSION, 1) == 1:  # some writers give byte counts that are too large
        most = rows * ceil(columns * first(_BITS, 1) * samples // planes / 8)
    ends = (offset + min(count, most) for offset, count in zip(offsets, counts, strict=False))
    behind = max(ends, default=0) - len(data)
    if behind > 0:
        raise ImageRejected(Reason.TRUNCATED, f"a strip or tile ends {behind} bytes behind the end of the file")


def _tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """The integers of the first directory, by tag."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    head, entry = (f"{order}Q", f"{order}HHQ8s") if big else (f"{order}H", f"{order}HHL4s")
    try:
        (start,) = struct.unpack_from(f"{order}Q" if big else f"{order}L", data, 8 if big else 4)
        (count,) = struct.unpack_from(head, data, start)
        first = start + struct.calcsize(head)
        entries = data[first : first + count * struct.calcsize(entry)]
        tags = {}
        if len(entries) < count * struct.calcsize(entry):
            raise struct.error
        for tag, kind, number, value in struct.iter_unpack(entry, entries):
            if kind not in _NUMBERS or tag not in _READ or not number:
                continue
            layout = struct.Struct(f"{order}{number}{_NUMBERS[kind]}")
            if layout.size > len(value):
                (at,) = struct.unpack(f"{order}Q" if big else f"{order}L", value)
                tags[tag] = layout.unpack_from(data, at)
            else:
                tags[tag] = layout.unpack_from(value)
    except struct.error:
        raise ImageRejected(Reason.TRUNCATED, "the file ends before its directory does") from None
    return tags
