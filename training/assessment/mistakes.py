"""The most confident mistakes of a model, and which parts of their images speak for the wrong answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from training.assessment.page.content import Shown
from training.assessment.plots import data_uri, image_png
from training.assessment.predictions import Scored
from training.metrics.several_classes import one_vs_rest
from training.metrics.two_classes import Labels, Probabilities
from training.runs.run_folder import RunConfig
from training.task import MULTICLASS

SHOWN = 8  # mistakes of each kind in the report
MAPPED = 16  # of all kinds; each costs PATCHES**2 predictions
PATCHES = 8  # by side of an image
_HEAT = np.array([255, 80, 0])
_MOST_HEAT = 0.6  # of the colour in a map

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Mistake:
    """One wrongly classified example. image: uint8 [height, width, channels]; probability: of the second class, of the
    finding, or of the class `predicted`; output: whose it is; confidence: from 0 to 1, in the wrong answer; missed:
    whether the answer was no."""

    image: Pixels
    id: str
    probability: float
    confidence: float
    output: int
    missed: bool
    predicted: str = ""


Mistakes = list[list[Mistake]]  # by kind: see mistaken


class _Kind(NamedTuple):
    """rows: which examples are mistakes of this kind; confidence of the answer and the output that it is about, all
    [examples]; missed: whether the answer is no."""

    rows: npt.NDArray[np.bool_]
    confidence: Probabilities
    output: Labels
    missed: bool


def keep_worst(mistakes: Mistakes, batch: Scored, run: RunConfig) -> None:
    """Adds the mistakes of `batch` to those of their kind, and keeps the most confident SHOWN of each kind."""
    for number, kind in enumerate(mistaken(batch.labels, batch.probabilities, run)):
        if number == len(mistakes):
            mistakes.append([])
        for row in np.flatnonzero(kind.rows):
            output = int(kind.output[row])
            predicted = run.classes[output] if run.task.kind == MULTICLASS else ""
            probability, confidence = float(batch.probabilities[row, output]), float(kind.confidence[row])
            mistakes[number].append(
                Mistake(
                    batch.images[row].copy(), batch.ids[row], probability, confidence, output, kind.missed, predicted
                )
            )
        mistakes[number].sort(key=lambda mistake: mistake.confidence, reverse=True)
        del mistakes[number][SHOWN:]


def mistaken(labels: Labels, probabilities: Probabilities, run: RunConfig) -> Iterator[_Kind]:
    """The kinds of mistakes, in the order of statements.titles_of: for each class, the images of it that are predicted as
    another; or, for each output that has a threshold, false positives and false negatives."""
    if run.task.kind == MULTICLASS:
        predicted = probabilities.argmax(1)
        for index in range(len(run.classes)):
            yield _Kind((labels == index) & (predicted != index), probabilities.max(1), predicted, False)
        return
    for index, (of_class, certain) in enumerate(one_vs_rest(labels, run.task)):
        output = np.full(len(labels), index)
        called = probabilities[:, index] >= run.thresholds[index]
        yield _Kind(certain & called & (of_class == 0), probabilities[:, index], output, False)
        yield _Kind(certain & ~called & (of_class == 1), 1 - probabilities[:, index], output, True)


def shown(model: keras.Model, mistakes: Mistakes) -> list[list[Shown]]:
    """The mistakes as the report shows them; with maps for the MAPPED most confident ones, of each kind in turn."""
    turns = [each for rank in zip_longest(*mistakes) for each in rank if each is not None]
    mapped = {id(each) for each in turns[:MAPPED]}
    return [[_shown(model, each, id(each) in mapped) for each in kind] for kind in mistakes]


def _shown(model: keras.Model, mistake: Mistake, with_map: bool) -> Shown:
    plain = Shown(data_uri(image_png(mistake.image)), mistake.id, mistake.probability, mistake.predicted)
    if not with_map:
        return plain
    hidden = occluded(model, mistake)
    heat = support(mistake, hidden)
    picture = data_uri(image_png(overlay(mistake.image, heat)))
    return Shown(
        plain.picture, plain.id, plain.probability, plain.predicted, picture, float(hidden.flat[int(heat.argmax())])
    )


def occluded(model: keras.Model, mistake: Mistake) -> Probabilities:
    """The probability of the mistake's output with each patch filled with the image's mean, [PATCHES, PATCHES]. Zeiler and
    Fergus 2014, ECCV, section 4.2."""
    image = mistake.image
    variants = np.repeat(image[np.newaxis], PATCHES**2, axis=0)
    gray = np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
    rows, columns = (_edges(side) for side in image.shape[:2])
    for number, (row, column) in enumerate(np.ndindex(PATCHES, PATCHES)):
        variants[number, rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = gray
    probabilities = np.asarray(model.predict_on_batch(variants), np.float64)
    return probabilities[:, mistake.output].reshape(PATCHES, PATCHES)


def support(mistake: Mistake, hidden: Probabilities) -> Probabilities:
    """By how much the log odds of the wrong answer fall when each patch is hidden, [PATCHES, PATCHES]; `hidden` of
    `occluded`. Negative where they rise."""
    before = np.float64(mistake.probability)
    return _log_odds(hidden) - _log_odds(before) if mistake.missed else _log_odds(before) - _log_odds(hidden)


def overlay(image: Pixels, heat: Probabilities) -> Pixels:
    """The image, uint8 [height, width, 3], with each patch as red as it supports the answer, relative to the strongest."""
    height, width = image.shape[:2]
    strength = _MOST_HEAT * np.clip(heat, 0, None) / max(float(heat.max()), 1e-9)
    rows, columns = (np.repeat(np.arange(PATCHES), np.diff(_edges(side))) for side in (height, width))
    alpha = strength[np.ix_(rows, columns)][..., np.newaxis]
    gray = np.broadcast_to(image, (height, width, 3))
    found: Pixels = np.rint((1 - alpha) * gray + alpha * _HEAT).astype(np.uint8)
    return found


def _edges(side: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, side, PATCHES + 1).astype(np.int64)


def _log_odds(probability: Probabilities | np.float64) -> Probabilities:
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
