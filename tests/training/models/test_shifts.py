"""The layers against NumPy: what they may change, that they change nothing at inference, and that a seed decides."""

import keras
import numpy as np
import numpy.typing as npt
import pytest
from keras import ops

from training.models.shifts import RandomShift, Standardise


def images(count: int = 6, side: int = 32, channels: int = 1) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (count, side, side, channels)) / 255).astype(np.float32)


def called(layer: keras.layers.Layer, x: npt.NDArray[np.float32], **options: bool) -> npt.NDArray[np.float32]:
    return np.asarray(ops.convert_to_numpy(layer(x, **options)))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_change_in_training_and_stay_in_range(channels: int) -> None:
    x = images(channels=channels)
    found = called(RandomShift(1.0), x, training=True)
    assert found.shape == x.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert all(np.abs(a - b).mean() > 0.01 for a, b in zip(found, x, strict=True))


def test_nothing_changes_at_inference_or_without_strength() -> None:
    x = images()
    np.testing.assert_array_equal(called(RandomShift(1.0), x, training=False), x)
    np.testing.assert_array_equal(called(RandomShift(0.0), x, training=True), x)


def test_a_seed_decides_and_images_change_differently() -> None:
    x = np.repeat(images(1), 4, axis=0)
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        layer = RandomShift(1.0)
        found.append([called(layer, x, training=True) for _ in range(2)])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0][0] - found[2][0]).mean() > 0.01
    assert np.abs(found[0][0] - found[0][1]).mean() > 0.01  # the next call draws anew
    assert np.abs(found[0][0][0] - found[0][0][1]).mean() > 0.01


def test_strength_scales_the_changes() -> None:
    x = images(64)
    smooth = np.repeat(np.repeat(x[:, ::8, ::8], 8, axis=1), 8, axis=2)
    weak, strong = (np.abs(called(RandomShift(s), smooth, training=True) - smooth).mean() for s in (0.1, 1.0))
    assert weak < strong / 2


def test_the_centre_moves_no_further_than_allowed() -> None:
    """A bright square in the middle stays there within the bounds of shift, and its area within those of zoom."""
    keras.utils.set_random_seed(0)
    x = np.zeros((64, 64, 64, 1), np.float32)
    x[:, 24:40, 24:40] = 1
    moved = np.asarray(ops.convert_to_numpy(RandomShift(1.0)._moved(x)))[..., 0]
    rows, columns = np.indices((64, 64))
    for image in moved:
        y, across = (image * rows).sum() / image.sum(), (image * columns).sum() / image.sum()
        # Shift, enlarged by the largest zoom and stretch, and shear.
        assert abs(y - 31.5) < 64 * 0.12 * np.exp(0.4) + 2
        assert abs(across - 31.5) < 64 * 0.12 * np.exp(0.4) + 2
        assert np.exp(-0.6) * 0.9 < image.sum() / 256 < np.exp(0.6) * 1.1
    assert len({round(float(image.sum()), 1) for image in moved}) > 32


def test_standardised_images_do_not_depend_on_brightness_and_contrast() -> None:
    x = images() * 0.5 + 0.2
    found = called(Standardise(), x)
    np.testing.assert_allclose(found.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((1, 2, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(called(Standardise(), x * 0.5 + 0.3), found, atol=1e-4)
    np.testing.assert_array_equal(called(Standardise(), np.full((1, 8, 8, 1), 0.5, np.float32)), 0)
