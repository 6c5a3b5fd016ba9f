"""Where the cells of a feature map are in the image that the model gets.

A convolution or a pooling without padding drops the border, so the cells do not spread over the whole image: those of
the last convolution of model3, 4x4 for 64 pixels, lie within its middle half. Positions follow the rules for the centre
of the receptive field (Araujo et al. 2019, Distill, doi:10.23915/distill.00021).
"""

from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt


class Steps(NamedTuple):
    """Of one axis of a feature map: the centre of cell i is first + i * step, in pixels of the image, whose centres are
    whole numbers."""

    first: float
    step: float


class Passed(NamedTuple):
    """A layer on the way through a model, and the shapes of what goes in and comes out."""

    layer: keras.layers.Layer
    before: tuple[int | None, ...]
    after: tuple[int | None, ...]


def steps_of(path: list[Passed], side: int, cells: int, axis: int) -> Steps:
    """Of the output of the last layer of `path`, which leads from an input of `side` pixels there; `axis` is 1 or 2. If the
    path holds a layer with other rules, the cells are spread evenly."""
    first, step = 0.0, 1.0
    for layer, before, after in path:
        entered, left = (shape[axis] if len(shape) == 4 else None for shape in (before, after))
        window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
        if isinstance(layer, keras.layers.ZeroPadding2D):
            first -= layer.padding[axis - 1][0] * step
        elif entered is None or left is None:
            return spread(side, cells)
        elif window is not None and hasattr(layer, "strides"):
            stride, dilation = layer.strides[axis - 1], getattr(layer, "dilation_rate", (1, 1))[axis - 1]
            width = (window[axis - 1] - 1) * dilation + 1
            padded = max((left - 1) * stride + width - entered, 0) // 2 if layer.padding == "same" else 0
            first += ((width - 1) / 2 - padded) * step
            step *= stride
        elif entered != left:
            return spread(side, cells)
    return Steps(first, step)


def spread(side: int, cells: int) -> Steps:
    """Cells of equal size that fill the image."""
    step = side / cells
    return Steps((step - 1) / 2, step)


def path_to(model: keras.Model, layer: keras.layers.Layer) -> list[Passed]:
    """The layers on one way from the input of the model to `layer`, also through models inside it, in order. Other ways have
    the same steps, or their outputs could not be added or joined. Empty if the model does not hold the layer."""
    for inner in model.layers:
        if inner is layer:
            return _way(layer)
        if isinstance(inner, keras.Model) and (inside := path_to(inner, layer)):
            return [*_way(inner)[:-1], *inside]
    return []


def _way(layer: keras.layers.Layer) -> list[Passed]:
    """From the input of the model that holds the layer."""
    way: list[Passed] = []
    while not isinstance(layer, keras.layers.InputLayer):
        node = layer._inbound_nodes[0]  # Keras has no public way to walk through a graph
        source = node.input_tensors[0]
        way.append(Passed(layer, tuple(source.shape), tuple(node.outputs[0].shape)))
        layer = source._keras_history.operation
    return way[::-1]


def interpolation(positions: npt.NDArray[np.float64], steps: Steps, cells: int) -> npt.NDArray[np.float64]:
    """Weights [positions, cells] that interpolate linearly between the centres of cells; beyond the outermost ones, their
    values go on."""
    places = ((positions - steps.first) / steps.step).clip(0, cells - 1)
    below = np.minimum(places.astype(int), max(cells - 2, 0))
    weights = np.zeros((len(positions), cells))
    rows = np.arange(len(positions))
    weights[rows, below] = 1 - (places - below)
    weights[rows, np.minimum(below + 1, cells - 1)] += places - below
    return weights
