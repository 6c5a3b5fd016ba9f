"""The corruptions, against the same changes computed in other ways."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.shifts.corruptions import CORRUPTIONS, SEVERITIES, corrupt, corrupt_in_turn

RANDOM = ("gaussian_noise", "speckle_noise", "shot_noise", "aspect", "rotation", "shift", "patches", "borders")
SIDE = 64

Pixels = NDArray[np.uint8]


def smooth(count: int = 6) -> Pixels:
    """Gray images of a bright oval with structure in it, darker towards the edges, and no two alike."""
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    oval = np.exp(-(rows**2 + 1.5 * columns**2))
    images = [40 + 150 * oval + 25 * np.sin((5 + n) * rows + n) * np.cos(6 * columns) for n in range(count)]
    return np.rint(images).astype(np.uint8)[..., None]


def test_the_table_names_those_that_are_random() -> None:
    images = smooth()
    differ = [name for name in CORRUPTIONS if (corrupt(images, name, 3, 0) != corrupt(images, name, 3, 1)).any()]
    assert differ == list(RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_they_grow_with_severity_and_depend_on_the_arguments_alone(name: str) -> None:
    images = smooth()
    before = images.copy()
    changes = []
    for severity in SEVERITIES:
        changed = corrupt(images, name, severity, 7)
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert (changed == corrupt(images, name, severity, 7)).all()
        changes.append(np.abs(changed.astype(float) - images).mean())
    assert (images == before).all()
    assert changes[0] > 0
    assert changes == sorted(changes)
    in_colour = corrupt(np.repeat(images, 3, axis=-1), name, 2, 7)
    assert (in_colour == np.repeat(corrupt(images, name, 2, 7), 3, axis=-1)).all()
    assert corrupt(images[:0], name, 1).shape == (0, SIDE, SIDE, 1)


def test_an_unknown_name_or_severity_is_refused() -> None:
    for name, severity in (("fog", 1), ("blur", 0), ("blur", 6)):
        with pytest.raises(ValueError, match=f"no corruption '{name}' of severity {severity}"):
            corrupt(smooth(), name, severity)


def test_gray_levels() -> None:
    images = smooth()
    x = images / 255
    mean = x.mean((1, 2, 3), keepdims=True)
    level = {name: corruption.levels[-1] for name, corruption in CORRUPTIONS.items()}
    for name, expected in (
        ("gamma_up", x ** level["gamma_up"]),
        ("gamma_down", x ** level["gamma_down"]),
        ("contrast_down", mean + level["contrast_down"] * (x - mean)),
        ("contrast_up", mean + level["contrast_up"] * (x - mean)),
        ("brightness_down", x - 0.22),
        ("brightness_up", x + 0.22),
    ):
        np.testing.assert_allclose(corrupt(images, name, 5), np.clip(expected, 0, 1) * 255, atol=0.51)


def test_histograms() -> None:
    images = smooth()
    for image in corrupt(images, "stretch", 5):
        assert (image == 0).mean() == pytest.approx(0.1, abs=0.03)
        assert (image == 255).mean() == pytest.approx(0.1, abs=0.03)
    for before, image in zip(images, corrupt(images, "equalise", 5), strict=True):
        share_of_not_brighter = (before.ravel()[:, None] >= before.ravel()).mean(1).reshape(before.shape)
        np.testing.assert_allclose(image, 255 * share_of_not_brighter, atol=0.51)


def test_noise_has_the_deviation_of_its_level() -> None:
    gray = np.full((8, SIDE, SIDE, 1), 128, np.uint8)
    for name, level, expected in (
        ("gaussian_noise", 0.1, 0.1),
        ("speckle_noise", 0.2, 0.1),
        ("shot_noise", 50, (0.5 / 50) ** 0.5),
    ):
        assert CORRUPTIONS[name].levels[4] == level
        noisy = corrupt(gray, name, 5) / 255
        assert noisy.mean() == pytest.approx(0.5, abs=0.01)
        assert noisy.std() == pytest.approx(expected, rel=0.05)
        assert len({image.tobytes() for image in noisy}) == len(gray)


def test_a_blurred_point_is_a_bell_and_a_sharpened_edge_overshoots() -> None:
    point = np.zeros((1, SIDE, SIDE, 1), np.uint8)
    point[0, 30, 20] = 255
    deviation = CORRUPTIONS["blur"].levels[4] * SIDE
    rows, columns = np.mgrid[:SIDE, :SIDE]
    bell = np.exp(-((rows - 30) ** 2 + (columns - 20) ** 2) / (2 * deviation**2))
    np.testing.assert_allclose(corrupt(point, "blur", 5)[0, ..., 0], 255 * bell / bell.sum(), atol=0.6)
    edge = np.full((1, SIDE, SIDE, 1), 100, np.uint8)
    edge[:, :, 32:] = 140
    sharpened = corrupt(edge, "sharpen", 3)[0, 10, :, 0]
    assert sharpened[31] < 100
    assert sharpened[32] > 140
    assert (sharpened[[2, 61]] == (100, 140)).all()


def test_jpeg_is_what_pillow_makes_of_it() -> None:
    images = smooth()
    for image, changed in zip(images, corrupt(images, "jpeg", 4), strict=True):
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "JPEG", quality=CORRUPTIONS["jpeg"].levels[3])
        theirs = np.asarray(Image.open(file)).astype(float)
        ours, loss, their_loss = (
            np.abs(one.astype(float) - other).mean()
            for one, other in ((changed[..., 0], theirs), (changed, image), (theirs, image[..., 0]))
        )
        assert ours < loss / 2  # coefficients between two steps are rounded to either side
        assert loss == pytest.approx(their_loss, rel=0.05)


def test_pixels_of_a_smaller_image() -> None:
    images = smooth()
    means = images.reshape(-1, 32, 2, 32, 2).mean((2, 4))
    expected = np.repeat(np.repeat(means, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(corrupt(images, "pixelate", 3)[..., 0], expected, atol=0.51)


def ramp() -> Pixels:
    """Each row goes from 0 to 252 in steps of 4."""
    return np.broadcast_to(np.arange(SIDE, dtype=np.uint8) * 4, (12, SIDE, SIDE))[..., None]


def test_crop_and_zoom_scale_around_the_centre() -> None:
    places = np.arange(SIDE) - (SIDE - 1) / 2
    cropped = corrupt(ramp(), "crop", 5)
    np.testing.assert_allclose(cropped[3, 9, :, 0], 126 + 4 * 0.75 * places, atol=0.51)
    white = np.full((1, SIDE, SIDE, 1), 255, np.uint8)
    zoomed = corrupt(white, "zoom_out", 5) / 255
    assert zoomed.mean() == pytest.approx(1 / 1.4**2, abs=0.02)
    assert not zoomed[0, [0, -1]].any()
    assert zoomed[0, 32, 32] == 1


def test_aspect_stretches_one_axis() -> None:
    places = np.arange(SIDE) - (SIDE - 1) / 2
    changed = corrupt(ramp(), "aspect", 5)[:, 9, :, 0]
    stretched = np.abs(changed - (126 + 4 * 0.7 * places)).max(1) < 0.51
    same = (changed == ramp()[:, 9, :, 0]).all(1)
    assert (stretched ^ same).all()
    assert 0 < stretched.sum() < len(changed)


def test_rotation_turns_by_the_angle_to_either_side() -> None:
    point = np.zeros((12, SIDE, SIDE, 1), np.uint8)
    point[:, 30:34, 51:54] = 255  # 20.5 to the right of the centre
    found = [
        np.degrees(np.arctan2(*(np.average(np.argwhere(image), axis=0, weights=image[image > 0]) - 31.5)))
        for image in corrupt(point, "rotation", 5)[..., 0]
    ]
    assert sorted(set(np.rint(found))) == [-20, 20]


def test_shift_moves_by_the_distance() -> None:
    point = np.zeros((12, SIDE, SIDE, 1), np.uint8)
    point[:, 30:34, 30:34] = 255
    moves = [
        np.average(np.argwhere(image), axis=0, weights=image[image > 0]) - 31.5
        for image in corrupt(point, "shift", 5)[..., 0]
    ]
    np.testing.assert_allclose(np.linalg.norm(moves, axis=1), 0.16 * SIDE, atol=0.1)
    assert np.linalg.norm(np.mean(moves, axis=0)) < 6


def test_patches_and_borders_hide_a_share() -> None:
    gray = np.full((200, SIDE, SIDE, 1), 99, np.uint8)
    patched = corrupt(gray, "patches", 5)
    hidden = (patched != 99).mean((1, 2, 3))
    assert hidden.max() <= 3 / 16
    assert hidden.min() >= 1 / 16
    assert set(np.unique(patched)) == {0, 99, 255}
    bordered = corrupt(gray, "borders", 5)
    assert set(np.unique(bordered)) == {0, 99}
    assert (bordered == 99).mean() == pytest.approx((1 - 2 * 0.125) ** 2, abs=0.02)
    assert (bordered[:, 16:-16, 16:-16] == 99).all()


def test_corruptions_take_turns() -> None:
    images = np.random.default_rng(0).integers(0, 256, (130, 16, 16, 1), dtype=np.uint8)
    found = corrupt_in_turn(images)
    names = list(CORRUPTIONS)
    for at, name in enumerate(names):
        same = [row for row in range(130) if row % len(names) == at]
        np.testing.assert_array_equal(found[same], corrupt(images[same], name, 5))
    # Counted from `start`: the first image has the fourth corruption.
    later = corrupt_in_turn(images[:2], 3)
    np.testing.assert_array_equal(later[:1], corrupt(images[:1], names[3], 5, seed=3))
    np.testing.assert_array_equal(later[1:], corrupt(images[1:2], names[4], 5, seed=3))
