"""The maps of networks of which it is known what they look at."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from keras import layers, ops
from scipy.stats import spearmanr

from schemas.errors import UsageError
from schemas.labels import CLASS, MULTI_HOT
from training.explanation import methods
from training.explanation.gradients import gradient
from training.explanation.layers import changed, convolution, layers_to_show, outputs
from training.explanation.randomised import look_alike, randomised, rank_correlation
from training.explanation.scores import score_model, score_of, target_of
from training.models.networks import build_model
from training.models.recipes import MODEL3, SMALL_RESNET
from training.task import Task

BINARY = Task(("A", "B"), CLASS)


def only(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return scores[:, 0]


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, shape, np.uint8)


def looking_at(mask: npt.NDArray[np.float32]) -> keras.Model:
    """A model whose score is the sum of the pixels where `mask` is 1."""
    images = keras.Input((*mask.shape, 1), dtype="uint8")
    score = layers.Dense(1, activation="sigmoid")(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    model = keras.Model(images, score)
    model.set_weights([mask.reshape(-1, 1), np.zeros(1)])
    return model


def test_occlusion_finds_what_the_score_depends_on() -> None:
    mask = np.zeros((32, 32), np.float32)
    mask[8:12, 20:24] = 1
    image = np.full((32, 32, 1), 60, np.uint8)
    image[8:12, 20:24] = 255
    found = methods.occlusion(score_model(looking_at(mask)), only, image)
    assert found.shape == (32, 32)
    # Patches of 4 pixels, each moved by 2: only those that meet the square change the score.
    np.testing.assert_array_equal(np.argwhere(found > 1e-6).min(0), [6, 18])
    np.testing.assert_array_equal(np.argwhere(found > 1e-6).max(0), [13, 25])
    assert found[9:11, 21:23].min() == found.max()
    np.testing.assert_allclose(methods.occlusion(score_model(looking_at(-mask)), only, image), -found, atol=1e-5)


def test_occlusion_is_the_mean_over_the_patches_that_hide_a_pixel() -> None:
    image = noise(24, 24, 1)
    found = methods.occlusion(score_model(looking_at(np.ones((24, 24), np.float32))), only, image)
    change = image[:, :, 0] / 255 - round(image.mean()) / 255
    for y, x in ((0, 0), (12, 7), (23, 1)):
        tops, lefts = ([start for start in range(-2, 24) if start <= at < start + 3] for at in (y, x))
        drops = [change[max(top, 0) : top + 3, max(left, 0) : left + 3].sum() for top in tops for left in lefts]
        assert len(drops) == 9
        assert found[y, x] == pytest.approx(np.mean(drops), abs=1e-3)


def test_gradcam_of_one_channel_is_that_channel() -> None:
    images = keras.Input((16, 20, 1), dtype="uint8")
    seen = layers.Conv2D(1, 1, name="seen")(layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(seen)))
    model.set_weights([np.full((1, 1, 1, 1), 2.0), np.zeros(1), np.full((1, 1), 3.0), np.zeros(1)])
    image = noise(16, 20, 1)
    scores, layer = score_model(model), convolution(model, None)
    found = methods.gradcam(scores, only, image, layer)
    np.testing.assert_allclose(found, image[:, :, 0] * (2.0 / 255 * 3 / (16 * 20)), rtol=1e-4)
    against = methods.gradcam(scores, lambda scores: -scores[:, 0], image, layer)
    np.testing.assert_array_equal(against, np.zeros((16, 20)))
    assert layer.call.__name__ == "call"  # as before


def test_gradcam_by_differences_in_a_model_inside_with_a_shortcut() -> None:
    inner = keras.Input((16, 16, 3))
    seen = layers.Conv2D(3, 3, padding="same", activation="tanh")(inner)
    inside = keras.Model(inner, layers.Activation("tanh")(layers.Add()([inner, seen])))
    images = keras.Input((16, 16, 1), dtype="uint8")
    features = inside(layers.Conv2D(3, 1)(layers.Rescaling(1 / 255)(images)))
    model = keras.Model(images, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(features)))
    scores, image, layer = score_model(model), noise(16, 16, 1), inside.layers[1]
    assert convolution(model, None) is layer
    (activations,) = outputs(model, [layer], image[np.newaxis])

    def score(shift: npt.NDArray[np.float32]) -> float:
        with changed(layer, lambda value: value + ops.convert_to_tensor(shift)):
            return float(np.asarray(scores(image[np.newaxis], training=False))[0, 1])

    steps = np.eye(3, dtype=np.float32) * 1e-2  # added to all cells of one channel
    slopes = np.array([(score(step) - score(-step)) / 2e-2 for step in steps]) / (16 * 16)
    found = methods.gradcam(scores, lambda scores: scores[:, 1], image, layer)
    np.testing.assert_allclose(found, np.maximum(activations[0] @ slopes, 0), rtol=1e-3, atol=1e-6)


def test_the_score_is_what_the_last_activation_gets() -> None:
    for task in (BINARY, Task(("A", "B", "C"), CLASS), Task(("A", "B"), MULTI_HOT)):
        model = build_model(MODEL3, (64, 64, 1), task)
        images = noise(3, 64, 64, 1)
        scores, probabilities = np.asarray(score_model(model)(images)), np.asarray(model(images))
        activation = ops.softmax if task.activation == "softmax" else ops.sigmoid
        np.testing.assert_allclose(np.asarray(activation(scores)), probabilities, atol=1e-6)


def test_the_score_of_an_average_is_the_log_odds() -> None:
    images = keras.Input((8, 8, 1), dtype="uint8")
    flat = layers.Flatten()(layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, layers.Average()([layers.Dense(1, activation="sigmoid")(flat) for _ in range(2)]))
    pixels = noise(4, 8, 8, 1)
    probabilities = np.asarray(model(pixels), np.float64)
    expected = np.log(probabilities / (1 - probabilities))
    np.testing.assert_allclose(np.asarray(score_model(model)(pixels)), expected, atol=1e-4)


def test_the_class_that_is_explained() -> None:
    scores = np.array([[2.0], [-1.0]])
    np.testing.assert_array_equal(score_of(scores, BINARY, "B"), [2.0, -1.0])
    np.testing.assert_array_equal(score_of(scores, BINARY, "A"), [-2.0, 1.0])
    three = Task(("A", "B", "C"), CLASS)
    np.testing.assert_array_equal(score_of(np.array([[1.0, 2.0, 3.0]]), three, "B"), [2.0])
    assert target_of(BINARY, [0.1], None) == "B"
    assert target_of(three, [0.2, 0.7, 0.1], None) == "B"
    assert target_of(three, [0.2, 0.7, 0.1], "C") == "C"


def test_activations_are_those_of_a_model_that_ends_there() -> None:
    model, images = build_model(MODEL3, (64, 64, 1), BINARY), noise(2, 64, 64, 1)
    shown = layers_to_show(model, None)
    assert [type(layer).__name__ for layer in shown] == ["Conv2D", "MaxPooling2D"] * 4
    for layer, given in zip(shown, outputs(model, shown, images), strict=True):
        np.testing.assert_allclose(given, np.asarray(keras.Model(model.input, layer.output)(images)), atol=1e-5)


def test_random_weights_are_others_and_the_same_each_time() -> None:
    model = build_model(SMALL_RESNET, (64, 64, 1), BINARY)
    first, second = randomised(model), randomised(model)
    kernels = [[weight for weight in each.get_weights() if weight.ndim == 4] for each in (model, first, second)]
    for trained, fresh, again in zip(*kernels, strict=True):
        assert np.abs(trained - fresh).max() > 1e-3
        np.testing.assert_array_equal(fresh, again)


class Nothing(layers.Layer):  # type: ignore[misc] # untyped
    """Does nothing, and cannot be made from its settings."""

    def __init__(self, strength: float, **options: Any) -> None:
        super().__init__(dtype="float32", **options)
        self.strength = strength

    def call(self, images: Any) -> Any:
        return images


def test_random_weights_in_a_network_with_a_layer_of_ones_own() -> None:
    images = keras.Input((8, 8, 1), dtype="uint8")
    features = layers.Conv2D(2, 3)(Nothing(0.5)(layers.Rescaling(1 / 255)(images)))
    model = keras.Model(images, layers.Dense(1)(layers.Flatten()(features)))
    fresh, pixels = randomised(model), noise(2, 8, 8, 1)
    assert np.abs(np.asarray(fresh(pixels)) - np.asarray(model(pixels))).max() > 1e-4
    assert convolution(fresh, None) is not convolution(model, None)
    image = pixels[0]
    assert methods.gradcam(score_model(fresh), only, image, convolution(fresh, None)).shape == (8, 8)


def test_the_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(3)
    first = random.random((9, 9)).round(1)  # with ties
    second = first + random.random((9, 9))
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    assert rank_correlation(first, np.zeros((9, 9))) is None
    assert [look_alike(value) for value in (None, 0.49, 0.5, -0.9)] == [False, False, True, True]


def test_another_backend_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(UsageError, match="gradcam needs TensorFlow or JAX, and Keras uses torch"):
        gradient(lambda x: x, np.zeros(1, np.float32))
