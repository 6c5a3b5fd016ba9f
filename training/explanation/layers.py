"""The layers inside a model: finding them, seeing what they give, and changing it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras import layers

from schemas.errors import UsageError
from training.explanation.gradients import Tensor

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
POOLINGS = (layers.MaxPooling2D, layers.AveragePooling2D)


def every_layer(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models inside it, in order, without these models themselves."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)
        else:
            yield layer


def layers_to_show(model: keras.Model, name: str | None) -> list[keras.layers.Layer]:
    """The convolution or pooling layer called `name`, or all of them. Raises UsageError, naming them, if there is none."""
    found = [layer for layer in every_layer(model) if isinstance(layer, (*CONVOLUTIONS, *POOLINGS))]
    named = [layer for layer in found if name in (None, layer.name)]
    if not named:
        raise UsageError(_unknown(model, name, [layer.name for layer in found]))
    return named


def convolution(model: keras.Model, name: str | None) -> keras.layers.Layer:
    """The convolution called `name`, or the last one. Raises UsageError, naming all, if there is none."""
    found = [layer for layer in every_layer(model) if isinstance(layer, CONVOLUTIONS)]
    named = [layer for layer in found if name in (None, layer.name)]
    if not named:
        raise UsageError(_unknown(model, name, [layer.name for layer in found]))
    return named[-1]


def _unknown(model: keras.Model, name: str | None, known: list[str]) -> str:
    if not known:
        return f"{model.name} has no convolution to look at; give --method occlusion"
    shown = ", ".join(known if len(known) < 20 else [*known[:9], "...", *known[-9:]])
    return f"--layer {name}: {model.name} has no such layer; it has {shown}"


@contextmanager
def changed(layer: keras.layers.Layer, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While the body of the `with` runs, the layer gives change(what it computes). Unlike a second model with another
    output, this also reaches layers of models inside the model."""
    compute = layer.call
    layer.call = lambda *inputs, **named: change(compute(*inputs, **named))
    try:
        yield
    finally:
        layer.call = compute


def outputs(model: keras.Model, seen: list[keras.layers.Layer], images: Any) -> list[Any]:
    """What each of the layers `seen` gives in inference for `images`, a batch, as arrays of float32."""
    given: dict[int, Any] = {}

    def keep(index: int) -> Callable[[Tensor], Tensor]:
        def change(value: Tensor) -> Tensor:
            given[index] = keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))
            return value

        return change

    with ExitStack() as stack:
        for index, layer in enumerate(seen):
            stack.enter_context(changed(layer, keep(index)))
        model(images, training=False)
    return [given[index] for index in range(len(seen))]
