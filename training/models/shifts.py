"""Random changes far beyond those between two images of one patient, and a layer that makes a model insensitive to exposure.

A model that is trained on the images of one hospital learns how that hospital frames and exposes them. On images of
another one, its scores are shifted. These layers take such cues away: the first makes them useless in training, the
second removes brightness and contrast, at inference too.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any

# At strength 1. Geometry, as parts of the side:
ROTATION = 12.0  # degrees either way
SHIFT = 0.12
ZOOM = 0.30  # natural logarithm of the factor
ASPECT = 0.30  # natural logarithm of the ratio
SHEAR = 0.10
# Exposure, of pixels from 0 to 1:
GAMMA = 0.6  # natural logarithm of the exponent
CONTRAST = 0.5  # natural logarithm of the factor
BRIGHTNESS = 0.15
RAMP = 0.15  # of a linear change of brightness from one side to the other
BLUR = 1.0  # 1: replaced by the blurred image; -1: sharpened by as much
NOISE = 0.05  # standard deviation
PATCH = 0.35  # longest side
BORDER = 0.20  # widest black border, at each edge


@keras.saving.register_keras_serializable("radrecords")
class RandomShift(layers.Layer):  # type: ignore[misc] # untyped
    """Moves, turns, stretches, re-exposes, blurs or sharpens, and covers parts of each image, at random, in training only.

    float32 [batch, height, width, channels] from 0 to 1, to the same. `strength` scales all bounds; 0 changes nothing.
    """

    def __init__(self, strength: float, **options: Any) -> None:
        super().__init__(dtype="float32", **options)
        self.strength = strength
        self.seeds = keras.random.SeedGenerator()

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        if not training or not self.strength:
            return images
        return self._covered(self._exposed(self._moved(images)))

    def _uniform(self, batch: Tensor, low: float, high: float, shape: tuple[int, ...] = ()) -> Tensor:
        """Random numbers, one (or `shape`) for each image, as [batch, *shape, ...] that broadcast over an image."""
        return keras.random.uniform((batch, *(shape or (1, 1, 1))), low, high, seed=self.seeds)

    def _moved(self, images: Tensor) -> Tensor:
        s, batch = self.strength, ops.shape(images)[0]
        height, width = images.shape[1:3]

        def drawn(bound: float) -> Tensor:
            return keras.random.uniform((batch,), -bound * s, bound * s, seed=self.seeds)

        angle, zoom, aspect, shear = drawn(np.radians(ROTATION)), drawn(ZOOM), drawn(ASPECT), drawn(SHEAR)
        across, down = ops.exp(zoom + aspect / 2), ops.exp(zoom - aspect / 2)
        cos, sin = ops.cos(angle), ops.sin(angle)
        # From a pixel of the output to one of the input, about the centre.
        a0, a1 = cos * across, (-sin + shear) * across
        b0, b1 = (sin + shear) * down, cos * down
        x0, y0 = (width - 1) / 2, (height - 1) / 2
        a2 = x0 - a0 * x0 - a1 * y0 + drawn(SHIFT) * width
        b2 = y0 - b0 * x0 - b1 * y0 + drawn(SHIFT) * height
        none = ops.zeros_like(a0)
        transform = ops.stack([a0, a1, a2, b0, b1, b2, none, none], axis=1)
        return ops.image.affine_transform(images, transform, "bilinear", "constant", data_format="channels_last")

    def _exposed(self, images: Tensor) -> Tensor:
        s, batch = self.strength, ops.shape(images)[0]
        height, width, channels = images.shape[1:]
        x = ops.power(ops.clip(images, 1e-4, 1.0), ops.exp(self._uniform(batch, -GAMMA * s, GAMMA * s)))
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        x = (x - mean) * ops.exp(self._uniform(batch, -CONTRAST * s, CONTRAST * s)) + mean
        x = x + self._uniform(batch, -BRIGHTNESS * s, BRIGHTNESS * s)
        down = ops.reshape(ops.linspace(-1.0, 1.0, height), (1, height, 1, 1))
        across = ops.reshape(ops.linspace(-1.0, 1.0, width), (1, 1, width, 1))
        x = x + self._uniform(batch, -RAMP * s, RAMP * s) * down + self._uniform(batch, -RAMP * s, RAMP * s) * across
        kernel = np.outer((1, 4, 6, 4, 1), (1, 4, 6, 4, 1)).astype(np.float32) / 256
        kernel = np.repeat(kernel[:, :, None, None], channels, axis=2)
        blurred = ops.depthwise_conv(x, kernel, padding="same", data_format="channels_last")
        x = x + ops.clip(self._uniform(batch, -1.5, 1.5), -1, 1) * min(1.0, BLUR * s) * (blurred - x)
        x = x + keras.random.normal(ops.shape(x), seed=self.seeds) * self._uniform(batch, 0.0, NOISE * s)
        return ops.clip(x, 0.0, 1.0)

    def _covered(self, images: Tensor) -> Tensor:
        """Half of the images lose a rectangle to a random gray, and half their edges to black."""
        s, batch = self.strength, ops.shape(images)[0]
        height, width = images.shape[1:3]
        down = ops.reshape(ops.linspace(0.0, 1.0, height), (1, height, 1, 1))
        across = ops.reshape(ops.linspace(0.0, 1.0, width), (1, 1, width, 1))
        most = min(1.0, PATCH * s) / 2
        inside = ops.logical_and(
            ops.abs(down - self._uniform(batch, 0.0, 1.0)) < self._uniform(batch, 0.0, most),
            ops.abs(across - self._uniform(batch, 0.0, 1.0)) < self._uniform(batch, 0.0, most),
        )
        inside = ops.logical_and(inside, self._uniform(batch, 0.0, 1.0) < 0.5)
        images = ops.where(inside, self._uniform(batch, 0.0, 1.0), images)
        widest = self._uniform(batch, -BORDER * s, BORDER * s)  # none for half of the images
        top, bottom, left, right = (self._uniform(batch, 0.0, 1.0) * widest for _ in range(4))
        seen = (down >= top) & (down <= 1 - bottom) & (across >= left) & (across <= 1 - right)
        return ops.where(seen, images, 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strength": self.strength}


@keras.saving.register_keras_serializable("radrecords")
class Standardise(layers.Layer):  # type: ignore[misc] # untyped
    """Gives each image a mean of 0 and a standard deviation of 1, over all pixels: brightness and contrast are gone.

    float32 [batch, height, width, channels] to the same. An image of one gray becomes 0.
    """

    def call(self, images: Tensor) -> Tensor:
        mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
        spread = ops.std(images, axis=(1, 2, 3), keepdims=True)
        return (images - mean) / ops.maximum(spread, 1 / 255)
