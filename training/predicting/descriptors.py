"""What the scope of a model is judged by: a few numbers for each image, whatever its size and channels.

Each image is averaged over its channels and over blocks to 64x64, and standardised to mean 0 and standard deviation 1, so
that exposure does not count.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

COARSE, FINE = 8, 16  # pixels of a side of the two thumbnails
EDGES = 3
_SIDE, _HALF = 64, 32
_LEAST_CONTRAST = 0.02  # standard deviation, of a range of 1: what has less is not blown up to noise
_SMALL = 0.01  # so that a flat image has a logarithm
_AT_ONCE = 256  # images, so that little memory is needed


class Descriptors(NamedTuple):
    """coarse, fine: thumbnails of standardised images, float32 [images, 64] and [images, 256], by rows. edges: logarithms of
    the mean absolute difference of neighbours to the right, of neighbours below, and of what a halved image lacks, float32
    [images, 3]."""

    coarse: Floats
    fine: Floats
    edges: Floats


def descriptors_of(images: npt.NDArray[np.uint8]) -> Descriptors:
    """The descriptors of images, uint8 [images, size, size, channels], for any number of images."""
    empty = np.empty((0, *images.shape[1:]), np.uint8)
    parts = [_described(images[at : at + _AT_ONCE]) for at in range(0, len(images), _AT_ONCE)] or [_described(empty)]
    return joined(parts)


def joined(parts: list[Descriptors]) -> Descriptors:
    """Several descriptors as one."""
    return Descriptors(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _described(images: npt.NDArray[np.uint8]) -> Descriptors:
    gray = _blocks(images.mean(-1, dtype=np.float32) / np.float32(255), _SIDE)
    spread = np.maximum(gray.std((1, 2), keepdims=True), _LEAST_CONTRAST)
    standard = (gray - gray.mean((1, 2), keepdims=True)) / spread
    halved = np.repeat(np.repeat(_blocks(standard, _HALF), 2, axis=1), 2, axis=2)
    edges = [np.diff(standard, axis=2), np.diff(standard, axis=1), standard - halved]
    return Descriptors(
        _blocks(standard, COARSE).reshape(-1, COARSE**2),
        _blocks(standard, FINE).reshape(-1, FINE**2),
        np.stack([np.log(np.abs(each).mean((1, 2)) + _SMALL) for each in edges], 1).astype(np.float32),
    )


def _blocks(images: Floats, side: int) -> Floats:
    """[images, size, size] -> [images, side, side]: the mean over the area of each new pixel, also where it holds parts of
    pixels."""
    size = images.shape[1]
    if size == side:
        return images
    edges = np.linspace(0, size, side + 1)
    overlaps = np.minimum(edges[1:, None], np.arange(size) + 1) - np.maximum(edges[:-1, None], np.arange(size))
    weights = (np.clip(overlaps, 0, None) * side / size).astype(np.float32)
    found: Floats = weights @ images @ weights.T
    return found
