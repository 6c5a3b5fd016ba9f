"""Another share of ill patients than in training: a model's probabilities corrected without labels.

Saerens, Latinne and Decaestecker 2002, Neural Computation 14:21: expectation-maximisation of the prior. It assumes that the
images of each class look alike in both places and only their shares differ, and that the probabilities are calibrated
(Alexandari, Kundaje and Shrikumar 2020, ICML, PMLR 119:222), so give it calibrated ones.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from training.metrics.weighted import Floats, Probabilities

_ITERATIONS = 10_000
_CLOSE = 1e-9
_CLOSEST = 1e-7  # of a probability to 0, as in the loss

Correction = Callable[[Probabilities], Probabilities]


def adapt_prior(
    probabilities: Probabilities, training_prior: Sequence[float] | npt.NDArray[np.float64]
) -> tuple[Floats, Correction]:
    """The share of each class among unlabelled images, float64 [classes], and a function that corrects probabilities for it.

    probabilities: [images, 1], of the second of two classes, or [images, classes], which sum to 1. For several findings,
    call it for each. training_prior: the share of each class where the model was trained, [classes]. The correction takes
    and gives probabilities of the same form. Raises ValueError if the shapes do not fit or a share is not above 0.
    """
    before = np.asarray(training_prior, np.float64)
    classes = _of_classes(probabilities)
    if len(classes) == 0 or before.shape != (classes.shape[1],) or not (before > 0).all():
        raise ValueError(f"{classes.shape} probabilities and a prior of {before.tolist()}")
    before = before / before.sum()
    now = before
    for _ in range(_ITERATIONS):
        last, now = now, _corrected(classes, now / before).mean(0)
        if np.abs(now - last).max() < _CLOSE:
            break
    ratio = now / before

    def correct(some: Probabilities) -> Probabilities:
        found = _corrected(_of_classes(some), ratio)
        return found[:, 1:] if some.shape[1] == 1 else found

    return now, correct


def _of_classes(probabilities: Probabilities) -> Probabilities:
    """[images, classes], also of two classes; none is 0, or nothing could correct it."""
    every = np.hstack([1 - probabilities, probabilities]) if probabilities.shape[1] == 1 else probabilities
    return np.clip(every, _CLOSEST, 1.0)


def _corrected(classes: Probabilities, ratio: Floats) -> Probabilities:
    joint = classes * ratio
    found: Probabilities = joint / joint.sum(1, keepdims=True)
    return found
