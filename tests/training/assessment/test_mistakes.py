"""The maps of mistakes, against a model whose answer follows from known pixels."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.assessment.mistakes import (
    MAPPED,
    PATCHES,
    Mistake,
    occluded,
    overlay,
    shown,
    support,
)


class Corner:
    """Says how bright the first 4 x 4 pixels of an image are, in two outputs, and counts its calls."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        bright = images[:, :4, :4].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def mistake(output: int = 1, missed: bool = False, side: int = 32, channels: int = 1) -> Mistake:
    image = np.full((side, side, channels), 40, np.uint8)
    image[:4, :4] = 230
    probability = 230 / 255 if output else 25 / 255
    return Mistake(image, "0" * 32, probability, 0.9, output, missed)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_patch_that_decides_is_found(channels: int) -> None:
    one, model = mistake(channels=channels), Corner()
    hidden = occluded(model, one)
    assert model.batches == [PATCHES**2]
    gray = round(one.image.mean())
    assert hidden[0, 0] == pytest.approx(gray / 255, abs=1e-6)
    assert hidden.flat[1:] == pytest.approx(230 / 255, abs=1e-6)
    heat = support(one, hidden)
    assert heat[0, 0] == pytest.approx(np.log(230 / 25) - np.log(gray / (255 - gray)), abs=1e-5)
    assert np.abs(heat.flat[1:]).max() < 1e-5
    drawn = overlay(one.image, heat)
    assert drawn.shape == (32, 32, 3)
    assert (drawn[:4, :4, 0] > drawn[:4, :4, 2]).all()
    assert (drawn[4:] == 40).all()


def test_what_speaks_against_a_finding_is_what_raises_its_probability_when_it_is_hidden() -> None:
    missed = mistake(output=0, missed=True)
    heat = support(missed, occluded(Corner(), missed))
    assert heat.argmax() == 0
    assert heat[0, 0] > 1


def test_patches_cover_a_side_that_they_do_not_divide() -> None:
    one = mistake(side=43)
    drawn = overlay(one.image, np.ones((PATCHES, PATCHES)))
    assert (drawn[:, :, 0] > 100).all()
    assert (overlay(one.image, np.full((PATCHES, PATCHES), -1.0)) == one.image).all()


def test_only_the_most_confident_mistakes_of_each_kind_have_maps() -> None:
    mistakes: list[list[Mistake]] = [[mistake() for _ in range(8)] for _ in range(3)] + [[]]
    model: Any = Corner()
    found = shown(model, mistakes)
    assert [[bool(each.map) for each in kind] for kind in found] == [
        *([True] * 6 + [False] * 2 for _ in range(1)),
        *([True] * 5 + [False] * 3 for _ in range(2)),
        [],
    ]
    assert len(model.batches) == MAPPED
    first = found[0][0]
    assert first.hidden == pytest.approx(round(mistakes[0][0].image.mean()) / 255, abs=1e-6)
    assert first.picture != first.map
