"""Corruptions of radiographs at five severities, on the uint8 tensors of a data set. They need no Keras.

In the manner of ImageNet-C (Hendrycks and Dietterich 2019, ICLR) and MedMNIST-C (Di Salvo, Doerrich and Ledig 2024,
arXiv:2406.17536): severity 1 is hard to see, and at 5 a reader would ask for another image. The levels are ours, chosen for
64x64 pixels. They imitate exposure and processing (gamma, contrast, brightness, histogram, noise, sharpening), copying
(blur, pixelation, JPEG), positioning (crop, zoom, shift, rotation, aspect), and collimation, markers and devices (borders,
patches).
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image
from scipy import ndimage

SEVERITIES = (1, 2, 3, 4, 5)
_PATCHES = 3
_STEP = 1 / 255  # between two gray levels

Images = npt.NDArray[np.uint8]
Gray = npt.NDArray[np.float32]  # [images, height, width], from 0 to 1
Changed = Any  # the same, float32 or float64, and perhaps beyond 0 and 1; NumPy's types do not say more


@dataclass(frozen=True)
class Corruption:
    """`apply`: (gray images, one of `levels`, random numbers) -> images. `levels`: by severity."""

    apply: Callable[[Gray, float, np.random.RandomState], Changed]
    levels: tuple[float, float, float, float, float]


def corrupt(images: Images, name: str, severity: int, seed: int = 0) -> Images:
    """`images` with the corruption `name` at `severity`, uint8 [images, height, width, channels] like them.

    Channels are taken to be equal, as in every data set. The result is a function of the arguments; random numbers, such
    as the direction of a shift, are the same at every severity. Raises ValueError for an unknown name or severity.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(f"no corruption {name!r} of severity {severity!r}")
    if not len(images):
        return images
    corruption = CORRUPTIONS[name]
    # RandomState: NumPy promises its numbers for all versions (NEP 19).
    seeds = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    random = np.random.RandomState(np.random.MT19937(seeds))
    gray: Gray = images[..., 0].astype(np.float32) / np.float32(255)
    changed = corruption.apply(gray, corruption.levels[severity - 1], random)
    levels: Images = np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], images.shape[-1], axis=-1)


def corrupt_in_turn(images: Images, start: int = 0) -> Images:
    """`images` of which number i, counted from `start`, has the corruption i, at the highest severity."""
    changed: Images = images.copy()
    for at, name in enumerate(CORRUPTIONS):
        rows = slice((at - start) % len(CORRUPTIONS), None, len(CORRUPTIONS))
        changed[rows] = corrupt(images[rows], name, SEVERITIES[-1], seed=start)
    return changed


def _gamma(gray: Gray, exponent: float, _random: np.random.RandomState) -> Changed:
    """An exponent above 1 darkens."""
    return gray ** np.float32(exponent)


def _contrast(gray: Gray, factor: float, _random: np.random.RandomState) -> Changed:
    """Around the mean of each image."""
    mean = gray.mean((1, 2), keepdims=True)
    return (gray - mean) * np.float32(factor) + mean


def _brightness(gray: Gray, added: float, _random: np.random.RandomState) -> Changed:
    return gray + np.float32(added)


def _stretch(gray: Gray, share: float, _random: np.random.RandomState) -> Changed:
    """To the full range, with this share of the pixels clipped at each end."""
    low, high = np.quantile(gray, (share, 1 - share), axis=(1, 2), keepdims=True)
    return (gray - low) / np.maximum(high - low, _STEP)


def _equalise(gray: Gray, share: float, _random: np.random.RandomState) -> Changed:
    """This share of the way to a flat histogram."""
    levels = np.rint(gray * 255).astype(np.int64)
    flat = np.stack([(np.bincount(image.ravel(), minlength=256).cumsum() / image.size)[image] for image in levels])
    return gray + share * (flat - gray)


def _gaussian_noise(gray: Gray, deviation: float, random: np.random.RandomState) -> Changed:
    return gray + random.normal(0, deviation, gray.shape)


def _speckle_noise(gray: Gray, deviation: float, random: np.random.RandomState) -> Changed:
    """In proportion to the brightness."""
    return gray * (1 + random.normal(0, deviation, gray.shape))


def _shot_noise(gray: Gray, photons: float, random: np.random.RandomState) -> Changed:
    """Of a detector that counts this many photons in a white pixel."""
    return random.poisson(gray * photons) / photons


def _blur(gray: Gray, deviation: float, _random: np.random.RandomState) -> Changed:
    """`deviation`: as a share of the height."""
    pixels = deviation * gray.shape[1]
    return ndimage.gaussian_filter(gray, (0, pixels, pixels), mode="nearest")


def _sharpen(gray: Gray, amount: float, random: np.random.RandomState) -> Changed:
    """An unsharp mask, as consoles apply it."""
    return gray + np.float32(amount) * (gray - _blur(gray, 1 / 64, random))


def _jpeg(gray: Gray, quality: float, _random: np.random.RandomState) -> Changed:
    """Compressed once more, at the size of the tensor."""
    pixels = np.rint(gray * 255).astype(np.uint8)
    files = (simplejpeg.encode_jpeg(image[..., None], int(quality), "GRAY", fastdct=False) for image in pixels)
    decoded = np.stack([simplejpeg.decode_jpeg(file, "GRAY", fastdct=False)[..., 0] for file in files])
    return decoded.astype(np.float32) / np.float32(255)


def _pixelate(gray: Gray, share: float, _random: np.random.RandomState) -> Changed:
    """As an image with this share of the rows and of the columns."""
    height, width = gray.shape[1:]
    fewer = max(1, round(share * width)), max(1, round(share * height))
    small = (Image.fromarray(image).resize(fewer, Image.Resampling.BOX) for image in gray)
    return np.stack([np.asarray(image.resize((width, height), Image.Resampling.NEAREST)) for image in small])


def _crop(gray: Gray, share: float, _random: np.random.RandomState) -> Changed:
    """The centre, with this share of each side, at the full size again; above 1, with a black border around."""
    return _resampled(gray, np.broadcast_to(share * np.eye(2), (len(gray), 2, 2)))


def _aspect(gray: Gray, share: float, random: np.random.RandomState) -> Changed:
    """Of either the height or the width, the middle share, stretched to the full side."""
    scales = np.where(random.randint(0, 2, (len(gray), 1)) == np.arange(2), share, 1.0)
    return _resampled(gray, scales[:, :, None] * np.eye(2))


def _rotation(gray: Gray, degrees: float, random: np.random.RandomState) -> Changed:
    """To either side."""
    angles = np.deg2rad(degrees) * random.choice((-1, 1), len(gray))
    matrices = np.array([[np.cos(angles), np.sin(angles)], [-np.sin(angles), np.cos(angles)]])
    return _resampled(gray, np.moveaxis(matrices, -1, 0))


def _shift(gray: Gray, share: float, random: np.random.RandomState) -> Changed:
    """By this share of the height, in any direction."""
    angles = random.uniform(0, 2 * np.pi, len(gray))
    shifts = share * gray.shape[1] * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return _resampled(gray, np.broadcast_to(np.eye(2), (len(gray), 2, 2)), shifts)


def _patches(gray: Gray, share: float, random: np.random.RandomState) -> Changed:
    """Black or white squares with this share of the height as their side."""
    changed = gray.copy()
    side = max(1, round(share * gray.shape[1]))
    places, whites = random.uniform(0, 1, (len(gray), _PATCHES, 2)), random.randint(0, 2, (len(gray), _PATCHES))
    for image, of_image, white in zip(changed, places, whites, strict=True):
        for (row, column), level in zip(of_image * (np.array(image.shape) - side), white, strict=True):
            image[round(row) : round(row) + side, round(column) : round(column) + side] = level
    return changed


def _borders(gray: Gray, share: float, random: np.random.RandomState) -> Changed:
    """Black at the four edges, each up to this share of the side."""
    changed = gray.copy()
    height, width = gray.shape[1:]
    widths = np.rint(random.uniform(0, share, (len(gray), 4)) * (height, height, width, width)).astype(int)
    for image, (top, bottom, left, right) in zip(changed, widths, strict=True):
        image[:top] = image[height - bottom :] = 0
        image[:, :left] = image[:, width - right :] = 0
    return changed


def _resampled(gray: Gray, matrices: npt.NDArray[np.float64], shifts: npt.NDArray[np.float64] | None = None) -> Changed:
    """Bilinear, black outside. `matrices` [images, 2, 2]: from a place in the result, counted from its centre in rows and
    columns, to the place in the image; then it is moved by `shifts` [images, 2] pixels."""
    centre = (np.array(gray.shape[1:]) - 1) / 2
    shifts = np.zeros((len(gray), 2)) if shifts is None else shifts
    return np.stack(
        [
            ndimage.affine_transform(image, matrix, centre - matrix @ centre + shift, order=1, mode="constant")
            for image, matrix, shift in zip(gray, matrices, shifts, strict=True)
        ]
    )


CORRUPTIONS: dict[str, Corruption] = {
    "gamma_down": Corruption(_gamma, (0.87, 0.74, 0.62, 0.5, 0.4)),
    "gamma_up": Corruption(_gamma, (1.15, 1.35, 1.6, 2.0, 2.5)),
    "contrast_down": Corruption(_contrast, (0.85, 0.7, 0.55, 0.42, 0.3)),
    "contrast_up": Corruption(_contrast, (1.1, 1.25, 1.45, 1.7, 2.0)),
    "brightness_down": Corruption(_brightness, (-0.04, -0.08, -0.12, -0.17, -0.22)),
    "brightness_up": Corruption(_brightness, (0.04, 0.08, 0.12, 0.17, 0.22)),
    "stretch": Corruption(_stretch, (0.005, 0.01, 0.02, 0.05, 0.1)),
    "equalise": Corruption(_equalise, (0.2, 0.4, 0.6, 0.8, 1.0)),
    "gaussian_noise": Corruption(_gaussian_noise, (0.01, 0.025, 0.045, 0.07, 0.1)),
    "speckle_noise": Corruption(_speckle_noise, (0.03, 0.06, 0.1, 0.14, 0.2)),
    "shot_noise": Corruption(_shot_noise, (1000, 400, 200, 100, 50)),
    "blur": Corruption(_blur, (0.008, 0.012, 0.016, 0.022, 0.03)),
    "sharpen": Corruption(_sharpen, (0.3, 0.6, 1.0, 1.5, 2.2)),
    "jpeg": Corruption(_jpeg, (80, 60, 40, 25, 12)),
    "pixelate": Corruption(_pixelate, (0.8, 0.65, 0.5, 0.4, 0.3)),
    "crop": Corruption(_crop, (0.96, 0.92, 0.87, 0.82, 0.75)),
    "zoom_out": Corruption(_crop, (1.05, 1.1, 1.18, 1.28, 1.4)),
    "aspect": Corruption(_aspect, (0.95, 0.9, 0.84, 0.78, 0.7)),
    "rotation": Corruption(_rotation, (3, 6, 10, 14, 20)),
    "shift": Corruption(_shift, (0.03, 0.06, 0.09, 0.12, 0.16)),
    "patches": Corruption(_patches, (0.08, 0.12, 0.16, 0.2, 0.25)),
    "borders": Corruption(_borders, (0.05, 0.1, 0.15, 0.2, 0.25)),
}
