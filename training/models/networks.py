"""The networks, in Keras 3 layers only, from uint8 images to the probabilities that a task asks for.

model1, model2 and model3 are the CNNs of the paper, which gives layers, kernels and output shapes, but neither activations
(here: ReLU) nor the dropout rates inside model 3 (here: 0.25 between the convolutions, 0.5 before the dense layers).
small_resnet is a residual network (He et al. 2016, CVPR, with batch normalisation) of 0.7 million parameters. best is one
for images that are exposed and framed in other ways than those it was trained on (docs/model.md). densenet121 is
Huang et al. 2017, CVPR, as keras.applications builds it; Rajpurkar et al. 2017, arXiv:1711.05225, used it for chest X-rays.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers

from schemas.errors import UsageError
from training.models.augment import augmentation
from training.models.recipes import Recipe
from training.models.shifts import RandomShift, Standardise
from training.task import Task

FLOAT32, FLOAT16, BFLOAT16 = "float32", "mixed_float16", "mixed_bfloat16"  # Keras dtype policies
IMAGENET = "imagenet"
_MEAN, _VARIANCE = (0.485, 0.456, 0.406), (0.229**2, 0.224**2, 0.225**2)  # of ImageNet's colours, from 0 to 1

# A network without its last layer: (float32 images [batch, height, width, channels] from 0 to 1, the Keras dtype policy
# of its layers, and the options in Recipe.network by name) -> features [batch, any number].
Body = Callable[..., Any]


def build_model(recipe: Recipe, shape: tuple[int, int, int], task: Task, dtype: str = FLOAT32) -> keras.Model:
    """The model of a recipe, not compiled, with fresh weights.

    Input: uint8 [batch, height, width, channels]; `shape` is the last three. Output: float32 [batch, task.outputs],
    probabilities. If the recipe augments, the random layers of augment.py follow the rescaling; they act in training
    only and have no weights. `dtype` is the Keras policy of the hidden layers. Of an ensemble, the probabilities are the
    means of those of its members, networks with weights of their own.
    Raises UsageError for an unknown model or an image that is too small for it.
    """
    if recipe.ensemble > 1:
        image = keras.Input(shape, dtype="uint8", name="image")
        one = replace(recipe, ensemble=1)
        members = [_network(one, shape, task, dtype, _member(number)) for number in range(recipe.ensemble)]
        mean = layers.Average(dtype="float32", name="mean_probability")
        return keras.Model(image, mean([each(image) for each in members]), name=recipe.model)
    return _network(recipe, shape, task, dtype, recipe.model)


def member(ensemble: keras.Model, number: int) -> keras.Model:
    """A network of an ensemble; they are counted from 0."""
    return ensemble.get_layer(_member(number))


def _member(number: object) -> str:
    return f"member_{number}"


def _network(recipe: Recipe, shape: tuple[int, int, int], task: Task, dtype: str, name: str) -> keras.Model:
    body: Callable[..., Any] | None = recipe.body or MODELS.get(recipe.model)
    if body is None:
        raise UsageError(f"unknown model {recipe.model!r}; known: {', '.join(MODELS)}")
    inputs = keras.Input(shape, dtype="uint8", name="image")
    first: list[layers.Layer] = [layers.Rescaling(1 / 255, dtype="float32", name="to_unit_range")]
    if recipe.augment:
        first += augmentation()
    if recipe.augment_strength:
        first.append(RandomShift(recipe.augment_strength))
    # Probabilities in 16 bits would round to 0 or 1 and make the loss infinite.
    last = layers.Dense(task.outputs, activation=task.activation, dtype="float32", name="probability")
    try:
        outputs = last(body(_chained(inputs, first), dtype, **recipe.network))
    except ValueError as error:
        if recipe.body:
            raise UsageError(
                f"recipe {recipe.source}: {recipe.model} does not take images of {shape}: {error}"
            ) from error
        raise UsageError(
            f"images of {shape} are too small for {recipe.model}; convert them at --image_size 64"
        ) from error
    return keras.Model(inputs, outputs, name=name)


def load_pretrained(model: keras.Model, weights: str) -> None:
    """Gives the network inside `model`, or inside each member of an ensemble, the weights `imagenet`, which Keras downloads,
    or those of a file. Raises UsageError if the model has no such network, or the weights cannot be read or do not fit."""
    members = [layer for layer in model.layers if layer.name.startswith(_member(""))] or [model]
    networks = [layer for one in members for layer in one.layers if isinstance(layer, keras.Model)]
    if len(networks) != len(members):
        raise UsageError(f"--weights {weights}: {model.name} has no pretrained weights; omit the flag")
    try:
        for network in networks:
            if weights == IMAGENET:
                network.set_weights(_densenet121(network.input_shape[1:], IMAGENET).get_weights())
            else:
                network.load_weights(weights)
    except Exception as error:  # of the download, of h5py, or of shapes: Keras raises bare Exceptions too
        raise UsageError(f"--weights {weights} cannot be loaded: {error}") from error


def _chained(x: Any, steps: Sequence[layers.Layer]) -> Any:
    for step in steps:
        x = step(x)
    return x


def _conv(filters: int, kernel: int, dtype: str) -> layers.Layer:
    return layers.Conv2D(filters, kernel, activation="relu", dtype=dtype)


def _model1(images: Any, dtype: str) -> Any:
    return _chained(
        images,
        (
            _conv(32, 3, dtype),
            layers.MaxPooling2D(3, dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dropout(0.5, dtype=dtype),
        ),
    )


def _model2(images: Any, dtype: str) -> Any:
    return _chained(
        images,
        (
            _conv(32, 5, dtype),
            layers.MaxPooling2D(3, dtype=dtype),
            _conv(32, 5, dtype),
            layers.Flatten(dtype=dtype),
            layers.Dropout(0.5, dtype=dtype),
            # Not ReLU: everything passes through this one unit. If it starts (or falls) below zero for every image, its
            # gradient is zero and the model predicts one class forever.
            layers.Dense(1, dtype=dtype),
        ),
    )


def _model3(images: Any, dtype: str) -> Any:
    return _chained(
        images,
        (
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
        ),
    )


def _small_resnet(images: Any, dtype: str) -> Any:
    x = _normalised(32, 2, dtype)(images)
    for filters, stride in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x = _residual(x, filters, stride, dtype)
    return layers.Dropout(0.2, dtype=dtype)(layers.GlobalAveragePooling2D(dtype=dtype)(x))


def _residual(x: Any, filters: int, stride: int, dtype: str) -> Any:
    """Two convolutions, added to what came in."""
    y = _normalised(filters, stride, dtype)(x)
    y = _normalised(filters, 1, dtype, relu=False)(y)
    if stride > 1 or x.shape[-1] != filters:
        x = _normalised(filters, stride, dtype, kernel=1, relu=False)(x)
    return layers.ReLU(dtype=dtype)(layers.Add(dtype=dtype)([x, y]))


def _normalised(filters: int, stride: int, dtype: str, kernel: int = 3, relu: bool = True) -> Callable[[Any], Any]:
    """A convolution with batch normalisation."""
    convolution = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, dtype=dtype)
    steps = [
        convolution,
        layers.BatchNormalization(momentum=0.9, dtype=dtype),
        *([layers.ReLU(dtype=dtype)] if relu else []),
    ]
    return lambda x: _chained(x, steps)


def _best(images: Any, dtype: str, width: float = 1.0, dropout: float = 0.3) -> Any:
    """Images without their brightness and contrast, and a residual network that blurs before it drops every second pixel, so
    that a shift by a pixel changes little (Zhang 2019, ICML)."""
    filters = [max(8, round(32 * width)) * factor for factor in (1, 2, 4)]
    x = Standardise()(images)
    x = _halved(_normalised(filters[0], 1, dtype)(x), dtype)
    for stage, count in enumerate(filters):
        if stage > 0:
            x = _halved(x, dtype)
        for _ in range(2):
            x = _residual(x, count, 1, dtype)
    return layers.Dropout(dropout, dtype=dtype)(layers.GlobalAveragePooling2D(dtype=dtype)(x))


def _halved(x: Any, dtype: str) -> Any:
    kernel = np.outer((1, 2, 1), (1, 2, 1)).astype(np.float32)[:, :, None, None] / 16
    blur = layers.DepthwiseConv2D(
        3,
        2,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.Constant(np.repeat(kernel, x.shape[-1], axis=2)),
        trainable=False,
        dtype=dtype,
    )
    return blur(x)


def _densenet(images: Any, dtype: str) -> Any:
    x = images
    if x.shape[-1] == 1:
        x = layers.Concatenate(dtype="float32")([x] * 3)
    x = layers.Normalization(mean=_MEAN, variance=_VARIANCE, dtype="float32")(x)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)  # keras.applications takes no policy
    try:
        return _densenet121(x.shape[1:], None)(x)
    finally:
        keras.config.set_dtype_policy(before)


def _densenet121(shape: tuple[int, int, int], weights: str | None) -> keras.Model:
    return keras.applications.DenseNet121(
        include_top=False, weights=weights, input_shape=shape, pooling="avg", name="densenet121"
    )


MODELS: dict[str, Body] = {
    "model1": _model1,
    "model2": _model2,
    "model3": _model3,
    "small_resnet": _small_resnet,
    "densenet121": _densenet,
    "best": _best,
}
