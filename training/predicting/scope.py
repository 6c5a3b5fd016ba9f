"""Whether an image is unlike those that a model was trained on: a photograph, a page, another view, a picture upside down.

A score is the largest of three, each a distance from the images of the training split:

coarse   Mahalanobis' distance of an 8x8 thumbnail and of the strength of edges
fine     the same with a 16x16 thumbnail
upright  how much an 8x8 thumbnail is like that of a training image upside down, by Fisher's linear discriminant

Covariances are of standardised numbers and shrunk towards the identity. Each of the three is scaled so that the median of
the validation split is 0 and its 99% quantile is 1; the largest of them is divided by its own 99% quantile. So about one in
a hundred images that are like those of validation has a score above 1, the limit. Labels play no part. NumPy only.

It finds gross errors only: an image within the scope may still be one that the model is wrong about.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.predicting.descriptors import COARSE, Descriptors, Floats, descriptors_of, joined
from training.reading.array_batches import part_of, stored_batches
from training.reading.records import Split, naming_damaged_shards

LIMIT = 1.0
QUANTILE = 0.99  # of validation
MOST_EXAMPLES = 3000  # of a split that are looked at: more change little, and take longer
_SHRINKAGE = {"coarse": 0.1, "fine": 0.02}
_LEAST_SPREAD = 1e-3
_BATCH = 256

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Normal:
    """A normal distribution: mean and spread (standard deviation), float32 [numbers], and whitening, float32 [numbers,
    numbers], the inverse of the lower Cholesky factor of the correlations."""

    mean: Floats
    spread: Floats
    whitening: Floats

    def distance(self, numbers: Floats) -> Scores:
        """Mahalanobis' distance of [images, numbers]."""
        white = ((numbers - self.mean) / self.spread) @ self.whitening.T
        found: Scores = np.sqrt((white.astype(np.float64) ** 2).sum(1))
        return found


@dataclass(frozen=True)
class Scope:
    """The images that a model was trained on. coarse, fine: see above. upright: a direction, float32 [64]. middle, span:
    what is subtracted from each of the three distances, and what they are divided by then, float64 [3]."""

    coarse: Normal
    fine: Normal
    upright: Floats
    middle: Scores
    span: Scores

    def scores(self, images: npt.NDArray[np.uint8]) -> Scores:
        """The score of each image, uint8 [images, size, size, channels]. Above LIMIT, an image is out of scope."""
        found = _distances(self.coarse, self.fine, self.upright, descriptors_of(images))
        largest: Scores = ((found - self.middle) / self.span).max(1)
        return largest


def fit_scope(training: Descriptors, validation: Descriptors) -> Scope:
    """The scope of a model: distances from its training images, with limits from its validation images."""
    coarse = _normal(_coarse(training), _SHRINKAGE["coarse"])
    fine = _normal(_fine(training), _SHRINKAGE["fine"])
    upright = _towards_upside_down(training.coarse)
    found = _distances(coarse, fine, upright, validation)
    middle = np.median(found, axis=0)
    span = np.maximum(_quantile(found) - middle, 1e-6)
    largest = ((found - middle) / span).max(1)
    # At least 1: each of the three has its quantile there.
    return Scope(coarse, fine, upright, middle, span * max(LIMIT, float(_quantile(largest[:, None])[0])))


def described(split: Split) -> Descriptors:
    """Descriptors of at most MOST_EXAMPLES that are evenly spaced over the split, always the same ones; of a large split,
    not all shards are read. Raises JobFailed for damaged shards."""
    full = sum(1 for shard in split.shards if shard.examples)
    enough = -(-MOST_EXAMPLES * full // split.examples)
    some = part_of(split, max(enough, 2)) if enough < full else split
    with naming_damaged_shards([some]):
        batches = enumerate(stored_batches(some, _BATCH))
        return joined([descriptors_of(sampled(images, n * _BATCH, some.examples)) for n, (images, _) in batches])


def sampled(images: npt.NDArray[np.uint8], at: int, examples: int) -> npt.NDArray[np.uint8]:
    """Of the batch of a split with `examples` that begins at example `at`: its part of at most MOST_EXAMPLES that are evenly
    spaced over the split."""
    step = -(-examples // MOST_EXAMPLES)
    return images[-at % step :: step]


def _coarse(found: Descriptors) -> Floats:
    return np.hstack([found.coarse, found.edges])


def _fine(found: Descriptors) -> Floats:
    return np.hstack([found.fine, found.edges])


def _distances(coarse: Normal, fine: Normal, upright: Floats, found: Descriptors) -> Scores:
    turned = (found.coarse @ upright).astype(np.float64)
    return np.stack([coarse.distance(_coarse(found)), fine.distance(_fine(found)), turned], 1)


def _normal(numbers: Floats, shrinkage: float) -> Normal:
    mean, spread = numbers.mean(0), numbers.std(0) + np.float32(_LEAST_SPREAD)
    standard = ((numbers - mean) / spread).astype(np.float64)
    shrunk = (1 - shrinkage) * standard.T @ standard / len(standard) + shrinkage * np.eye(len(mean))
    return Normal(mean, spread, np.linalg.inv(np.linalg.cholesky(shrunk)).astype(np.float32))


def _towards_upside_down(thumbnails: Floats) -> Floats:
    """Fisher's discriminant between thumbnails and the same upside down, by a vertical flip and by half a turn. A unit
    vector; 0 if there is no difference."""
    square = thumbnails.reshape(-1, COARSE, COARSE)
    turned = np.concatenate([square[:, ::-1], square[:, ::-1, ::-1]]).reshape(-1, COARSE**2)
    within = (_covariance(thumbnails) + _covariance(turned)) / 2
    size, shrinkage = len(within), _SHRINKAGE["fine"]
    within = (1 - shrinkage) * within + (shrinkage * np.trace(within) / size + _LEAST_SPREAD**2) * np.eye(size)
    direction = np.linalg.solve(within, turned.mean(0, np.float64) - thumbnails.mean(0, np.float64))
    return (direction / max(float(np.linalg.norm(direction)), 1e-12)).astype(np.float32)


def _covariance(numbers: Floats) -> Scores:
    centred = (numbers - numbers.mean(0)).astype(np.float64)
    found: Scores = centred.T @ centred / len(centred)
    return found


def _quantile(values: Scores) -> Scores:
    """The value of each column that a new image exceeds with a probability of at most 1 - QUANTILE, or the largest if there
    are too few values for that (Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World)."""
    rank = min(len(values), int(np.ceil(QUANTILE * (len(values) + 1))))
    found: Scores = np.sort(values, axis=0)[rank - 1]
    return found
