"""The maps: how much each pixel of the model's input, [height, width], counts.

Occlusion: Zeiler and Fergus 2014, ECCV. Grad-CAM: Selvaraju et al. 2017, ICCV.
"""

from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from training.explanation import grid
from training.explanation.gradients import Tensor, gradient
from training.explanation.layers import changed, outputs

BATCH = 64
PATCHES = 8  # hidden patches beside each other; each is moved by half its width

Image = npt.NDArray[np.uint8]  # [height, width, channels], as the model gets it
Map = npt.NDArray[np.float64]
Score = Callable[[Tensor], Tensor]  # scores [batch, outputs] -> [batch]


def occlusion(model: keras.Model, score: Score, image: Image) -> Map:
    """How much lower the score is where a patch in the mean gray of the image hides it: the mean over all patches that hide
    a pixel. Negative where hiding makes the score higher."""
    height, width = image.shape[:2]
    patches = [
        (slice(top, top + tall), slice(left, left + wide))
        for top, tall in _positions(height)
        for left, wide in _positions(width)
    ]
    gray = np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
    scores: list[float] = []
    for start in range(0, len(patches) + 1, BATCH):  # the last score is that of the whole image
        batch = np.repeat(image[np.newaxis], BATCH, axis=0)  # always as many: another number would be compiled anew
        for copy, patch in zip(batch, patches[start : start + BATCH], strict=False):
            copy[patch] = gray
        scores += np.asarray(score(np.asarray(model.predict_on_batch(batch))), np.float64).tolist()
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for patch, value in zip(patches, scores, strict=False):
        total[patch] += scores[len(patches)] - value
        count[patch] += 1
    return total / count


def _positions(side: int) -> list[tuple[int, int]]:
    """Start and length of the patches along one axis. They reach over both ends, so that the border is hidden as often as
    the middle."""
    patch = max(2, round(side / PATCHES))
    step = max(1, patch // 2)
    starts = range(step - patch, side, step)
    return [(max(start, 0), min(start + patch, side) - max(start, 0)) for start in starts]


def gradcam(model: keras.Model, score: Score, image: Image, layer: keras.layers.Layer) -> Map:
    """The channels of a convolution, weighted by the mean gradient of the score by each of them and added up; 0 where the
    sum is negative."""
    batch = image[np.newaxis]
    (activations,) = outputs(model, [layer], batch)

    def shifted(shift: Tensor) -> Tensor:
        with changed(layer, lambda value: value + ops.cast(shift, value.dtype)):
            return ops.sum(score(model(batch, training=False)))

    by_channel = gradient(shifted, np.zeros_like(activations)).mean(axis=(0, 1, 2))
    return on_input(np.maximum(activations[0] @ by_channel, 0.0), model, layer)


def activation(model: keras.Model, image: Image, layer: keras.layers.Layer) -> Map:
    """The mean of the absolute values of a layer's channels."""
    (activations,) = outputs(model, [layer], image[np.newaxis])
    return on_input(np.abs(activations[0]).mean(axis=-1), model, layer)


def on_input(cells: Map, model: keras.Model, layer: keras.layers.Layer) -> Map:
    """A feature map of `layer` at the size of the model's input."""
    path = grid.path_to(model, layer)
    weights = []
    for axis, (count, side) in enumerate(zip(cells.shape, model.input_shape[1:3], strict=True), start=1):
        steps = grid.steps_of(path, side, count, axis)
        weights.append(grid.interpolation(np.arange(side, dtype=float), steps, count))
    mapped: Map = weights[0] @ cells.astype(np.float64) @ weights[1].T
    return mapped
