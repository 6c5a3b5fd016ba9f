"""The networks, layer by layer, their last layer by task, and the augmentation in front of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.labels import MULTI_HOT
from training.models.augment import augmentation
from training.models.networks import FLOAT16, MODELS, build_model, load_pretrained, member
from training.models.recipes import MODEL1, Recipe
from training.task import Task

SHAPE = (64, 64, 1)
TWO = Task(("A", "B"))


def network(
    name: str, shape: tuple[int, int, int] = SHAPE, augment: bool = False, dtype: str = "float32", task: Task = TWO
) -> keras.Model:
    return build_model(Recipe(name, name, epochs=1, augment=augment), shape, task, dtype)


def noise(count: int = 4, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize(("name", "parameters"), [("model1", 13_121), ("model2", 34_659), ("model3", 98_017)])
def test_parameter_counts(name: str, parameters: int) -> None:
    assert network(name, SHAPE).count_params() == parameters
    model = network(name, SHAPE, augment=True)
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
    layers = network(name, SHAPE).layers[2:]  # behind the input and the rescaling
    assert [f"{type(layer).__name__} {'x'.join(map(str, layer.output.shape[1:]))}" for layer in layers] == expected


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"densenet121"}))
@pytest.mark.parametrize("dtype", ["float32", FLOAT16])
def test_outputs_are_probabilities_and_gradients_are_finite(name: str, dtype: str) -> None:
    keras.utils.set_random_seed(0)
    shape = (32, 32, 1) if name == "small_resnet" else SHAPE  # it is slow on a CPU in 16 bits
    model = network(name, shape, augment=True, dtype=dtype)
    images = noise(shape=shape)
    probabilities = model(images, training=True)
    assert keras.backend.standardize_dtype(probabilities.dtype) == "float32"
    probabilities = keras.ops.convert_to_numpy(probabilities)
    assert probabilities.shape == (4, 1)
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    # A step of plain gradient descent at rate 1 moves each weight by its gradient.
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    model.train_on_batch(images, np.ones((4, 1), np.float32))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        gradient = keras.ops.convert_to_numpy(weight) - old
        assert np.isfinite(gradient).all()
        assert np.any(gradient != 0)


def test_rescaling_to_the_unit_range() -> None:
    model = network("model1", SHAPE)
    scaled = keras.Model(model.input, model.get_layer("to_unit_range").output)(np.full((1, *SHAPE), 255, np.uint8))
    np.testing.assert_allclose(scaled, 1.0, rtol=1e-6)


def test_inference_is_deterministic_and_without_augmentation() -> None:
    keras.utils.set_random_seed(0)
    augmented, plain = network("model3", SHAPE, augment=True), network("model3", SHAPE)
    plain.set_weights([keras.ops.convert_to_numpy(weight) for weight in augmented.trainable_weights])
    np.testing.assert_allclose(augmented(noise(), training=False), plain(noise(), training=False), atol=1e-6)


def test_augmentation_moves_little_and_never_mirrors() -> None:
    keras.utils.set_random_seed(0)
    image = np.zeros((64, 64, 64, 1), np.float32)
    image[:, 24:40, 40:56] = 0.8  # a heart on one side
    changed = keras.ops.convert_to_numpy(keras.Sequential(augmentation())(image, training=True))
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
    assert network("model3", (64, 64, 3))(noise(2, (64, 64, 3))).shape == (2, 1)


def test_unknown_model_and_small_images() -> None:
    with pytest.raises(UsageError, match="unknown model 'model4'; known: model1, model2, model3"):
        network("model4", SHAPE)
    with pytest.raises(UsageError, match=r"images of \(16, 16, 1\) are too small for model3"):
        network("model3", (16, 16, 1))


@pytest.mark.parametrize("side", [64, 128, 512])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_resnet_takes_images_of_any_size(side: int, channels: int) -> None:
    model = network("small_resnet", (side, side, channels))
    assert model.count_params() < 1_000_000
    assert model(noise(1, (side, side, channels))).shape == (1, 1)


@pytest.mark.parametrize(
    ("task", "sums_to_one"),
    [(Task(("A", "B", "C")), True), (Task(("A", "B", "C"), MULTI_HOT), False), (Task(("A",), MULTI_HOT), False)],
)
def test_the_last_layer_follows_the_task(task: Task, sums_to_one: bool) -> None:
    probabilities = keras.ops.convert_to_numpy(network("model1", task=task)(noise()))
    assert probabilities.shape == (4, len(task.classes))
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5) == sums_to_one


def test_densenet_takes_one_channel_and_weights_of_a_file(tmp_path: Path) -> None:
    first, second = (network("densenet121", (32, 32, 1), dtype=dtype) for dtype in ("float32", FLOAT16))
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in second.get_layer("densenet121").layers} == {"float16"}
    first.get_layer("densenet121").save_weights(tmp_path / "dense.weights.h5")
    load_pretrained(second, str(tmp_path / "dense.weights.h5"))
    for mine, given in zip(second.layers[-2].get_weights(), first.layers[-2].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, given)
    assert second(noise(2, (32, 32, 1))).shape == (2, 1)
    with pytest.raises(UsageError, match=r"--weights .*none.h5 cannot be loaded"):
        load_pretrained(first, str(tmp_path / "none.h5"))
    with pytest.raises(UsageError, match="model1 has no pretrained weights"):
        load_pretrained(network("model1"), "imagenet")


def test_each_member_of_an_ensemble_takes_the_weights_of_a_file(tmp_path: Path) -> None:
    def body(images: Any, dtype: str) -> Any:
        inside = keras.Input(images.shape[1:])
        features = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, dtype=dtype)(inside))
        return keras.Model(inside, features, name="inside")(images)

    one = replace(MODEL1, body=body)
    given = build_model(one, (16, 16, 1), Task(("A", "B"))).get_layer("inside")
    given.save_weights(tmp_path / "inside.weights.h5")
    ensemble = build_model(replace(one, ensemble=2), (16, 16, 1), Task(("A", "B")))
    load_pretrained(ensemble, str(tmp_path / "inside.weights.h5"))
    for number in range(2):
        found = member(ensemble, number).get_layer("inside").get_weights()
        for mine, other in zip(found, given.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other)
    with pytest.raises(UsageError, match="model1 has no pretrained weights"):
        load_pretrained(build_model(replace(MODEL1, ensemble=2), (64, 64, 1), Task(("A", "B"))), "imagenet")
