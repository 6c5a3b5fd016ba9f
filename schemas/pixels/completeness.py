"""Whether the files that Pillow reads are whole: what it leaves black or repairs without a word is refused here."""

import struct
import zlib
from collections.abc import Iterator
from math import ceil
from typing import Protocol

from schemas.pixels.rejection import ImageRejected, Reason

# WebP takes 15 bytes a pixel: the canvases of libwebp's animation decoder, which Pillow always uses, then Pillow's own.
WEBP_PIXELS = 30_000_000

# Where Adam7 takes its pixels from: first column and row, and steps (PNG specification, 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each PNG colour type

# TIFF tags, and the layout of their numbers by type.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIPS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_TIFF_READ = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES}
_TIFF_READ |= {_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES}
_TIFF_NUMBERS = {3: "H", 4: "L", 16: "Q"}


class Admit(Protocol):
    """Called with width and height before any pixel is decoded; raises ImageRejected for what must not be."""

    def __call__(self, width: int, height: int) -> None: ...


def check_png(data: bytes, admit: Admit) -> None:
    """Walks the chunks (PNG specification, 5.3): Pillow checks no CRC of image data and misses no missing end."""
    for at, name, end in _png_chunks(data):
        if name == b"IHDR" and at == 8 and end <= len(data):
            admit(*struct.unpack_from(">LL", data, 16))
        if end > len(data):
            raise ImageRejected(Reason.TRUNCATED, f"a chunk ends {end - len(data)} bytes behind the end of the file")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageRejected(Reason.DAMAGED, f"the checksum of the chunk at byte {at} is wrong")


def check_png_rows(data: bytes) -> None:
    """Inflates the whole image for its length alone: Pillow leaves rows black that are missing."""
    width, height, bits, kind, _, _, interlaced = struct.unpack_from(">LLBBBBB", data, 16)
    missing = sum(
        rows * (1 + ceil(columns * bits * _SAMPLES.get(kind, 1) / 8))
        for x, y, across, down in (_ADAM7 if interlaced else ((0, 0, 1, 1),))
        if (columns := ceil((width - x) / across)) > 0 and (rows := ceil((height - y) / down)) > 0
    )
    inflate = zlib.decompressobj()
    for at, name, end in _png_chunks(data):
        content = data[at + 8 : end - 4] if name == b"IDAT" else b""
        while content and missing > 0:
            missing -= len(inflate.decompress(content, 1 << 20))
            content = inflate.unconsumed_tail
    if missing > 0:
        raise ImageRejected(Reason.TRUNCATED, f"the image data ends {missing} bytes early")


def _png_chunks(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Start, name and end of each chunk, through IEND or the first that is not whole."""
    end, name = 8, b""
    while name != b"IEND" and end <= len(data):
        at, name = end, data[end + 4 : end + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield at, name, end


def check_webp(data: bytes, admit: Admit) -> None:
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
    admit(width, height)
    if width * height > WEBP_PIXELS:
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{width}x{height} is above the {WEBP_PIXELS} pixels for WebP")


def check_tiff(data: bytes, admit: Admit) -> None:
    """The first directory and all strips or tiles that it needs are there (TIFF 6.0, sections 2, 3 and 15; BigTIFF):
    Pillow passes over entries that are cut off, and leaves black what has no strip."""
    tags = _tiff_tags(data)

    def first(tag: int, otherwise: int) -> int:
        return tags.get(tag, (otherwise,))[0]

    width, height, samples = first(_WIDTH, 0), first(_HEIGHT, 0), first(_SAMPLES_PER_PIXEL, 1)
    admit(width, height)
    planes = samples if first(_PLANAR, 1) == 2 else 1
    if _TILES in tags:
        offsets, counts = tags[_TILES], tags.get(_TILE_BYTES, ())
        columns, rows = first(_TILE_WIDTH, 0) or width, first(_TILE_HEIGHT, 0) or height
        admit(columns, rows)  # libtiff takes memory for a whole one
    else:
        offsets, counts = tags.get(_STRIPS, ()), tags.get(_STRIP_BYTES, ())
        columns, rows = width, min(first(_ROWS_PER_STRIP, height) or height, height)
    expected = ceil(height / rows) * ceil(width / columns) * planes
    if len(offsets) < expected:
        raise ImageRejected(Reason.TRUNCATED, f"{len(offsets)} of {expected} strips or tiles are there")
    most = len(data)
    if first(_COMPRESSION, 1) == 1:  # some writers' counts are too large
        most = rows * ceil(columns * first(_BITS, 1) * samples // planes / 8)
    ends = (offset + min(count, most) for offset, count in zip(offsets, counts, strict=False))
    behind = max(ends, default=0) - len(data)
    if behind > 0:
        raise ImageRejected(Reason.TRUNCATED, f"a strip or tile ends {behind} bytes behind the end of the file")


def _tiff_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """The whole numbers of the first directory by tag."""
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
            if kind not in _TIFF_NUMBERS or tag not in _TIFF_READ or not number:
                continue
            layout = struct.Struct(f"{order}{number}{_TIFF_NUMBERS[kind]}")
            if layout.size > len(value):
                (at,) = struct.unpack(f"{order}Q" if big else f"{order}L", value)
                tags[tag] = layout.unpack_from(data, at)
            else:
                tags[tag] = layout.unpack_from(value)
    except struct.error:
        raise ImageRejected(Reason.TRUNCATED, "the file ends before its directory does") from None
    return tags
