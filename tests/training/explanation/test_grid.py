"""Where the cells of a feature map are, compared with the pixels that change them."""

import keras
import numpy as np
import pytest
from keras import layers

from schemas.labels import CLASS
from training.explanation.gradients import gradient
from training.explanation.grid import Passed, Steps, interpolation, path_to, spread, steps_of
from training.models.networks import build_model
from training.models.recipes import MODEL3
from training.task import Task

NETWORKS = {
    "without padding": lambda: [layers.Conv2D(1, 3), layers.AveragePooling2D(2), layers.Conv2D(1, 5), layers.ReLU()],
    "padded": lambda: [layers.Conv2D(1, 3, 2, padding="same"), layers.Conv2D(1, 4, padding="same")],
    "padded by a layer": lambda: [layers.ZeroPadding2D(((3, 1), (2, 0))), layers.Conv2D(1, 7, 2), layers.Conv2D(1, 3)],
    "dilated": lambda: [layers.Conv2D(1, 3, dilation_rate=3), layers.Dropout(0.5), layers.DepthwiseConv2D(3, 2)],
    "in a model": lambda: [
        layers.Conv2D(1, 5, 2),
        keras.Sequential([layers.Input((14, 18, 1)), layers.Conv2D(1, 3, padding="same"), layers.Conv2D(1, 3)]),
    ],
}
HEIGHT, WIDTH = 31, 39


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cell_is_in_the_middle_of_the_pixels_that_change_it(name: str) -> None:
    model = keras.Sequential([layers.Input((HEIGHT, WIDTH, 1)), *NETWORKS[name]()])
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    last = model.layers[-1]
    if isinstance(last, keras.Model):
        last = last.layers[-1]
    _, rows, columns, _ = model.output_shape
    row, column = rows // 2, columns // 2

    change = gradient(lambda x: keras.ops.sum(model(x)[0, row, column]), np.ones((1, HEIGHT, WIDTH, 1), np.float32))
    weight = change[0, :, :, 0] / change.sum()
    path = path_to(model, last)
    down, right = steps_of(path, HEIGHT, rows, 1), steps_of(path, WIDTH, columns, 2)
    assert (weight.sum(1) @ np.arange(HEIGHT)) == pytest.approx(down.first + row * down.step, abs=1e-3)
    assert (weight.sum(0) @ np.arange(WIDTH)) == pytest.approx(right.first + column * right.step, abs=1e-3)


def test_the_last_convolution_of_model3_sees_the_middle() -> None:
    model = build_model(MODEL3, (64, 64, 1), Task(("A", "B"), CLASS))
    last = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)][-1]
    assert last.output.shape[1:3] == (4, 4)
    assert steps_of(path_to(model, last), 64, 4, 1) == Steps(18.5, 8.0)


def test_layers_with_other_rules_spread_the_cells() -> None:
    path = [Passed(layers.UpSampling2D(2), (None, 8, 8, 1), (None, 16, 16, 1))]
    assert steps_of(path, 8, 16, 1) == spread(8, 16) == Steps(-0.25, 0.5)


def test_interpolation_between_cells() -> None:
    values = np.array([1.0, 5.0, 3.0])
    positions = np.array([-4.0, 2.0, 3.0, 6.0, 8.0, 20.0])
    expected = np.interp(positions, [2.0, 6.0, 10.0], values)
    np.testing.assert_allclose(interpolation(positions, Steps(2.0, 4.0), 3) @ values, expected)
    np.testing.assert_array_equal(interpolation(positions, Steps(2.0, 4.0), 1), np.ones((6, 1)))
