"""Calibration with a slope and a bias for each class, on which prior correction depends.

One temperature cannot make the mean probability of a class its share, and expectation-maximisation takes what is left of
that error for another prior. This is bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020, ICML, PMLR
119:222); with two classes, Platt scaling. The smoothed targets are Platt's (1999, Probabilistic outputs for support vector
machines): they keep the slope finite where validation images are told apart without an error. The probabilities are then
about the shares of the validation split, also if the loss was weighted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from training.task import MULTILABEL, Task

LEAST, MOST = 1e-2, 1e2  # slope
_FARTHEST = 50.0  # bias from 0
_CLOSEST = 1e-7  # of a probability to 0 and 1, as in the loss

Probabilities = npt.NDArray[np.float64]


def fit_bias(labels: npt.NDArray[np.int64], probabilities: Probabilities, task: Task) -> dict[str, Any] | None:
    """`slope`, `bias` (of each class, 0 for the first) and `prior`, the share of each class, ready for JSON. None if the
    task has no classes, or one has no example. labels: int64 [examples]. probabilities: [examples, outputs of the model]."""
    if task.kind == MULTILABEL:
        return None
    counts = np.bincount(labels, minlength=len(task.classes))
    if not counts.all():
        return None
    logits = _logits(probabilities)
    own = ((counts + 1) / (counts + 2))[labels][:, None]
    targets = np.where(np.eye(len(counts), dtype=bool)[labels], own, (1 - own) / (len(counts) - 1))

    def loss(values: Probabilities) -> tuple[float, Probabilities]:
        scores = values[0] * logits + np.append(0, values[1:])
        error = (softmax(scores, axis=1) - targets) / len(labels)
        value = -(targets * log_softmax(scores, axis=1)).sum(1).mean()
        return float(value), np.append((error * logits).sum(), error.sum(0)[1:])

    start = np.append(1.0, np.zeros(len(counts) - 1))
    bounds = [(LEAST, MOST)] + [(-_FARTHEST, _FARTHEST)] * (len(counts) - 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-8}).x
    return {
        "slope": float(found[0]),
        "bias": [0.0, *found[1:].tolist()],
        "prior": (counts / counts.sum()).tolist(),
    }


def bias_corrected(probabilities: Probabilities, fitted: Mapping[str, Any]) -> Probabilities:
    """Probabilities of a model, [examples, outputs of the model], with the slope and the bias that `fit_bias` found."""
    found: Probabilities = softmax(fitted["slope"] * _logits(probabilities) + np.asarray(fitted["bias"]), axis=1)
    return found[:, 1:] if probabilities.shape[1] == 1 else found


def _logits(probabilities: Probabilities) -> Probabilities:
    """[examples, classes]; of two classes, those of the second against the first."""
    p = np.clip(probabilities, _CLOSEST, 1 - _CLOSEST)
    if p.shape[1] > 1:
        return np.log(p)
    return np.hstack([np.zeros_like(p), np.log(p) - np.log1p(-p)])
