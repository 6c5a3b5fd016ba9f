"""The three CNNs of the paper, in Keras 3 layers only, from uint8 images to the probability of the second class.

The paper gives layers, kernels and output shapes. It gives no activations (here: ReLU, and a sigmoid at the end) and no
dropout rates inside model 3 (here: 0.25 between the convolutions, 0.5 before the dense layers).
"""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from schemas.errors import UsageError
from training.augment import augmentation

FLOAT16 = "mixed_float16"


def build_model(name: str, shape: tuple[int, int, int], augment: bool = False, dtype: str = "float32") -> keras.Model:
    """The model called `name`, not compiled, with fresh weights.

    Input: uint8 [batch, height, width, channels]; `shape` is the last three. Output: float32 [batch, 1], the
    probability of the data set's second class. `augment` puts the random layers of augment.py behind the rescaling;
    they act in training only and have no weights. `dtype` is the Keras policy of the hidden layers.
    Raises UsageError for an unknown name or an image too small for the model's poolings.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    inputs = keras.Input(shape, dtype="uint8", name="image")
    first: list[layers.Layer] = [layers.Rescaling(1 / 255, dtype="float32", name="to_unit_range")]
    if augment:
        first += augmentation()
    # Probabilities in 16 bits would round to 0 or 1 and make the loss infinite.
    last = layers.Dense(1, activation="sigmoid", dtype="float32", name="probability")
    outputs = inputs
    try:
        for layer in (*first, *MODELS[name](dtype), last):
            outputs = layer(outputs)
    except ValueError as error:
        raise UsageError(f"images of {shape} are too small for {name}; convert them at --image_size 64") from error
    return keras.Model(inputs, outputs, name=name)


def _conv(filters: int, kernel: int, dtype: str) -> layers.Layer:
    return layers.Conv2D(filters, kernel, activation="relu", dtype=dtype)


def _model1(dtype: str) -> Sequence[layers.Layer]:
    return (
        _conv(32, 3, dtype),
        layers.MaxPooling2D(3, dtype=dtype),
        layers.Flatten(dtype=dtype),
        layers.Dropout(0.5, dtype=dtype),
    )


def _model2(dtype: str) -> Sequence[layers.Layer]:
    return (
        _conv(32, 5, dtype),
        layers.MaxPooling2D(3, dtype=dtype),
        _conv(32, 5, dtype),
        layers.Flatten(dtype=dtype),
        layers.Dropout(0.5, dtype=dtype),
        # Not ReLU: everything passes through this one unit. If it starts (or falls) below zero for every image, its
        # gradient is zero and the model predicts one class forever.
        layers.Dense(1, dtype=dtype),
    )


def _model3(dtype: str) -> Sequence[layers.Layer]:
    return (
        _conv(32, 3, dtype),
        layers.MaxPooling2D(2, dtype=dtype),
        _conv(32, 3, dtype),
        layers.MaxPooling2D(2, dtype=dtype),
        layers.Dropout(0.25, dtype=dtype),
        _conv(64, 3, dtype),
        layers.MaxPooling2D(2, dtype=dtype),
        layers.Dropout(0.25, dtype=dtype),
        _conv(64, 3, dtype),
        layers.MaxPooling2D(2, dtype=dtype),
        layers.Dropout(0.25, dtype=dtype),
        layers.Flatten(dtype=dtype),
        layers.Dropout(0.5, dtype=dtype),
        layers.Dense(128, activation="relu", dtype=dtype),
    )


MODELS: dict[str, Callable[[str], Sequence[layers.Layer]]] = {"model1": _model1, "model2": _model2, "model3": _model3}
