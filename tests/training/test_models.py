"""The paper's models, layer by layer, and the augmentation in front of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from schemas.errors import UsageError
from training.augment import augmentation
from training.models import FLOAT16, MODELS, build_model

SHAPE = (64, 64, 1)


def noise(count: int = 4, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize(("name", "parameters"), [("model1", 13_121), ("model2", 34_659), ("model3", 98_017)])
def test_parameter_counts(name: str, parameters: int) -> None:
    assert build_model(name, SHAPE).count_params() == parameters
    model = build_model(name, SHAPE, augment=True)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model1", ["Conv2D 62x62x32", "MaxPooling2D 20x20x32", "Flatten 12800", "Dropout 12800", "Dense 1"]),
        (
            "model2",
            [
                "Conv2D 60x60x32",
                "MaxPooling2D 20x20x32",
                "Conv2D 16x16x32",
                "Flatten 8192",
                "Dropout 8192",
                "Dense 1",
                "Dense 1",
            ],
        ),
        (
            "model3",
            [
                "Conv2D 62x62x32",
                "MaxPooling2D 31x31x32",
                "Conv2D 29x29x32",
                "MaxPooling2D 14x14x32",
                "Dropout 14x14x32",
                "Conv2D 12x12x64",
                "MaxPooling2D 6x6x64",
                "Dropout 6x6x64",
                "Conv2D 4x4x64",
                "MaxPooling2D 2x2x64",
                "Dropout 2x2x64",
                "Flatten 256",
                "Dropout 256",
                "Dense 128",
                "Dense 1",
            ],
        ),
    ],
)
def test_layers(name: str, expected: list[str]) -> None:
    layers = build_model(name, SHAPE).layers[2:]  # behind the input and the rescaling
    assert [f"{type(layer).__name__} {'x'.join(map(str, layer.output.shape[1:]))}" for layer in layers] == expected


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", FLOAT16])
def test_outputs_are_probabilities_and_gradients_are_finite(name: str, dtype: str) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(name, SHAPE, augment=True, dtype=dtype)
    images = noise()
    with tf.GradientTape() as tape:
        probabilities = model(images, training=True)
        loss = keras.losses.binary_crossentropy(np.ones((4, 1), np.float32), probabilities)
    assert probabilities.shape == (4, 1)
    assert probabilities.dtype == tf.float32
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert all(np.any(gradient != 0) for gradient in gradients)


def test_rescaling_to_the_unit_range() -> None:
    model = build_model("model1", SHAPE)
    scaled = keras.Model(model.input, model.get_layer("to_unit_range").output)(np.full((1, *SHAPE), 255, np.uint8))
    np.testing.assert_allclose(scaled, 1.0, rtol=1e-6)


def test_inference_is_deterministic_and_without_augmentation() -> None:
    keras.utils.set_random_seed(0)
    augmented, plain = build_model("model3", SHAPE, augment=True), build_model("model3", SHAPE)
    plain.set_weights([weight.numpy() for weight in augmented.trainable_weights])
    np.testing.assert_allclose(augmented(noise(), training=False), plain(noise(), training=False), atol=1e-6)


def test_augmentation_moves_little_and_never_mirrors() -> None:
    keras.utils.set_random_seed(0)
    image = np.zeros((64, 64, 64, 1), np.float32)
    image[:, 24:40, 40:56] = 0.8  # a heart on one side
    changed = keras.Sequential(augmentation())(image, training=True).numpy()
    assert changed.shape == image.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    columns, rows = np.arange(64), np.arange(64)
    across = (changed.sum(axis=(1, 3)) * columns).sum(axis=1) / changed.sum(axis=(1, 2, 3))
    down = (changed.sum(axis=(2, 3)) * rows).sum(axis=1) / changed.sum(axis=(1, 2, 3))
    assert np.ptp(across) > 1
    assert across.min() > 36  # the middle is 31.5
    assert np.all(abs(down - 31.5) < 12)


def test_three_channels() -> None:
    assert build_model("model3", (64, 64, 3))(noise(2, (64, 64, 3))).shape == (2, 1)


def test_unknown_model_and_small_images() -> None:
    with pytest.raises(UsageError, match="unknown model 'model4'; known: model1, model2, model3"):
        build_model("model4", SHAPE)
    with pytest.raises(UsageError, match=r"images of \(16, 16, 1\) are too small for model3"):
        build_model("model3", (16, 16, 1))
