"""A signature of what an image looks like: 104 bytes that stay nearly the same when the image is saved again.

The stored pixels, without the bars of a letterbox, are averaged to 32 x 32 grays. The signs of 256 coefficients of
their two-dimensional cosine transform (DCT-II) are kept: those of the lowest orders, except the very lowest, in which
all radiographs of a view are alike. Brightness and contrast do not change signs. Cropping moves everything, so the
signs are computed again without the outer 1% and without the outer 2% of the pixels: a cropped copy has nearly these
signs.

All values are whole numbers, exact in float64, so the result is the same on every machine and in any order of summation.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 4  # of 64 signs each
WEAK = 2  # per word: the signs that a copy is most likely to change
MARGINS = (1, 2)  # of the cropped signatures, at each side, in parts of 1/_PARTS
_PARTS = 100
_LEAST_SIDE = 16  # in pixels; a smaller image does not have that many coefficients
_PIXELS_AT_ONCE = 1 << 18  # as float64 they fit into the cache of a core
_CELLS = 32
_SIGNS = 64 * WORDS
_LEAST_ORDER = 4  # the sum of the horizontal and the vertical order
_ORDERS = 18
_UNIT = 256  # the scale of the rounded cosines
_MOST_ZEROS = 32  # an image with more coefficients that are exactly 0 is blank or a drawing, and its signs mean nothing

# These signs of each word form the key by which pairs are found. The free low bits hold the number of the word.
KEY_BITS = 0xF8F8_F8F8_F8F8_F8F8

# The signs of all pixels, the signs of the cropped pixels and, for each word, the WEAK key signs nearest to 0, as
# shifts from the lowest bit.
SIGNATURE = np.dtype(
    [("plain", ">u8", WORDS), ("cropped", ">u8", (len(MARGINS), WORDS)), ("weak", "u1", (WORDS, WEAK))]
)


def signatures(images: Sequence[NDArray[np.uint8]], letterboxed: bool) -> list[bytes]:
    """The SIGNATURE of each of these uint8 [height, width, channels] images, which all have one shape, from its first
    channel. b"" for an image that is blank, is so regular that more than 32 of the 256 coefficients are 0, or has fewer
    than 16 rows or columns."""
    if not images:
        return []
    grays = [_without_bars(image[:, :, 0]) if letterboxed else image[:, :, 0] for image in images]
    at_once = 1 if letterboxed else max(1, _PIXELS_AT_ONCE // grays[0].size)
    signed = []
    for start in range(0, len(grays), at_once):
        signed += _signed(np.stack(grays[start : start + at_once]))
    return signed


def _signed(pixels: NDArray[np.uint8]) -> list[bytes]:
    """The signatures of `pixels`, uint8 [images, height, width]."""
    if min(pixels.shape[1:]) < _LEAST_SIDE:
        return [b""] * len(pixels)
    coefficients = _coefficients(pixels)
    plain = coefficients[:, 0]
    certain = np.abs(plain).reshape(len(pixels), WORDS, 64)
    shifts = np.arange(63, -1, -1)
    certain[:, :, (KEY_BITS >> shifts.astype(np.uint64)) & np.uint64(1) == 0] = np.inf
    weak = shifts[np.argsort(certain, axis=2, kind="stable")[:, :, :WEAK]].astype(np.uint8)
    signs = np.packbits(coefficients > 0, axis=2)
    blank = (plain == 0).sum(1) > _MOST_ZEROS
    return [b"" if blank[i] else signs[i].tobytes() + weak[i].tobytes() for i in range(len(pixels))]


def distance_of(one: NDArray[np.void], other: NDArray[np.void]) -> NDArray[np.int64]:
    """The distance of each pair of SIGNATURE rows: the number of signs in which they differ or in which one differs
    from the other cropped, whichever is least."""
    least = _differing(one["plain"], other["plain"])
    for margin in range(len(MARGINS)):
        least = np.minimum(least, _differing(one["plain"], other["cropped"][:, margin]))
        least = np.minimum(least, _differing(one["cropped"][:, margin], other["plain"]))
    return least


def _differing(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The number of bits in which rows of words differ. Does not use np.bitwise_count, because NumPy 1.26, which
    tensorflow-io needs, lacks it. Source: H. Warren, Hacker's Delight, 2nd edition, section 5-1."""
    x = (one ^ other).astype(np.uint64)
    x -= (x >> np.uint64(1)) & np.uint64(0x5555_5555_5555_5555)
    x = (x & np.uint64(0x3333_3333_3333_3333)) + ((x >> np.uint64(2)) & np.uint64(0x3333_3333_3333_3333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F_0F0F_0F0F_0F0F)
    x = (x * np.uint64(0x0101_0101_0101_0101)) >> np.uint64(56)
    bits: NDArray[np.int64] = x.sum(-1).astype(np.int64)
    return bits


def _without_bars(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels between the two black bars of --resize_mode letterbox; the second bar may be one pixel wider. All
    images are alike in black bars, and if a bar is one pixel narrower in a copy, everything between the bars has
    moved."""
    inside = [np.flatnonzero(pixels.any(axis)) for axis in (1, 0)]
    if not len(inside[0]):
        return pixels
    black = [(int(some[0]), side - 1 - int(some[-1])) for some, side in zip(inside, pixels.shape, strict=True)]
    if min(black[0]) < min(black[1]):
        turned: NDArray[np.uint8] = _without_bars(pixels.T).T  # the bars are at the left and the right
        return turned
    first = min(black[0])
    return pixels[first : len(pixels) - min(black[0][1], first + 1)]


def _coefficients(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[images, 1 + MARGINS, _SIGNS] whole numbers: the coefficients of all pixels and of those within each margin."""
    images, height, width = pixels.shape
    margins = (0, *MARGINS)
    grays = np.empty((images, len(margins), _CELLS, _CELLS))
    for index, margin in enumerate(margins):
        (across, cell_width), (down, cell_height) = _shares(width, margin), _shares(height, margin)
        rows = pixels.reshape(-1, width).astype(_exact(255 * cell_width))
        sums = (rows @ across.astype(rows.dtype)).reshape(images, height, _CELLS).transpose(0, 2, 1)
        columns = sums.astype(_exact(255 * 16 * cell_width * cell_height)).reshape(-1, height)
        areas = (columns @ down.astype(columns.dtype)).reshape(images, _CELLS, _CELLS)
        # 0 to 4080. A quotient of numbers of this size rounds to a whole number only if it is one.
        gray = np.floor(areas * 16 / (cell_width * cell_height))
        # Remove the mean, which rounded cosines would let through.
        grays[:, index] = gray * _CELLS**2 - gray.sum((1, 2), keepdims=True)
    cosines = _cosines()
    found = (grays @ cosines.T).transpose(0, 1, 3, 2) @ cosines.T  # [image, margin, vertical, horizontal order]
    horizontal, vertical = _chosen()
    chosen: NDArray[np.float64] = found[:, :, vertical, horizontal]
    return chosen


def _exact(most: int) -> type[np.floating]:
    """The fastest type that holds all whole numbers up to `most`."""
    return np.float32 if most < 1 << 24 else np.float64


@functools.lru_cache(64)
def _shares(side: int, margin: int) -> tuple[NDArray[np.float64], int]:
    """[side, cells]: how much of each pixel lies in each of the equal cells into which the side without its margins is
    divided; and the width of a cell. Both are in the largest unit that makes them whole numbers."""
    unit = _CELLS * _PARTS
    pixel = np.arange(side) * unit
    cell = (np.arange(_CELLS)[:, np.newaxis] * (_PARTS - 2 * margin) + margin * _CELLS) * side
    overlap = np.minimum(pixel + unit, cell + side * (_PARTS - 2 * margin)) - np.maximum(pixel, cell)
    shares = overlap.clip(0).T
    largest = np.gcd.reduce(shares, axis=None)
    return (shares // largest).astype(np.float64), side * (_PARTS - 2 * margin) // int(largest)


@functools.cache
def _cosines() -> NDArray[np.float64]:
    places = (np.arange(_CELLS) + 0.5) / _CELLS
    return np.round(_UNIT * np.cos(np.pi * np.outer(np.arange(_ORDERS), places)))


@functools.cache
def _chosen() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The horizontal and the vertical orders of the coefficients, from the lowest up, dealt out to the words in
    turn."""
    orders = [(u, v) for u in range(_ORDERS) for v in range(_ORDERS) if u + v >= _LEAST_ORDER]
    orders.sort(key=lambda order: (order[0] ** 2 + order[1] ** 2, order))
    chosen = np.array(orders[:_SIGNS]).reshape(64, WORDS, 2).transpose(1, 0, 2).reshape(_SIGNS, 2)
    return chosen[:, 0], chosen[:, 1]
