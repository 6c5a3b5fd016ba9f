"""Metrics of a binary classifier from labels and probabilities, with 95% intervals. NumPy and scikit-learn only.

The intervals assume independent examples; several images of one patient make them too narrow.
- proportions: Wilson's score interval. Wilson 1927, J Am Stat Assoc 22:209.
- AUROC: DeLong's variance on the logit scale. DeLong et al. 1988, Biometrics 44:837; the ranks form of Sun and Xu 2014,
  IEEE Signal Process Lett 21:1389; the logit as in Pepe 2003, The Statistical Evaluation of Medical Tests, 5.2.
- AUPRC: the logit interval of Boyd, Eng and Page 2013, ECML PKDD, LNAI 8190:451.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
Interval = tuple[float, float]

Z = 1.959963984540054  # the normal distribution's 97.5% point
METHODS = {
    "accuracy, sensitivity, specificity": "Wilson score",
    "auroc": "DeLong, logit scale",
    "auprc": "Boyd et al. 2013, logit",
}


def evaluate_predictions(labels: Labels, probabilities: Probabilities, threshold: float) -> dict[str, Any]:
    """All metrics of one split, ready for JSON. Metrics that need both classes are None, with a note, if one is missing.

    labels: 0 or 1, [examples], at least one. probabilities: of class 1, [examples].
    """
    counts = np.bincount(labels, minlength=2)
    both = bool(counts.all())
    auroc = float(roc_auc_score(labels, probabilities)) if both else None
    auprc = float(average_precision_score(labels, probabilities)) if both else None
    point = operating_point(labels, probabilities, threshold)
    intervals = point.pop("intervals")
    intervals["auroc"] = auroc_interval(labels, probabilities) if both else None
    intervals["auprc"] = None if auprc is None else _logit_interval(auprc, math.sqrt(auprc * (1 - auprc) / counts[1]))
    return {
        "examples": len(labels),
        "loss": binary_cross_entropy(labels, probabilities),
        **point,
        "auroc": auroc,
        "auprc": auprc,
        "majority_class_accuracy": float(counts.max() / counts.sum()),
        "intervals": {**intervals, "level": 0.95, "methods": METHODS},
        "at_threshold_0.5": operating_point(labels, probabilities, 0.5),
        "notes": _notes(counts, auroc),
    }


def operating_point(labels: Labels, probabilities: Probabilities, threshold: float) -> dict[str, Any]:
    """Accuracy, sensitivity, specificity, their intervals and the confusion matrix (rows true, columns predicted)
    where a probability of at least `threshold` means class 1."""
    predicted = (probabilities >= threshold).astype(np.int64)
    matrix = np.bincount(2 * labels + predicted, minlength=4).reshape(2, 2)
    (tn, fp), (fn, tp) = matrix.tolist()
    parts = {"accuracy": (tp + tn, len(labels)), "sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp)}
    return {
        **{name: hits / total if total else None for name, (hits, total) in parts.items()},
        "confusion_matrix": matrix.tolist(),
        "intervals": {name: wilson_interval(hits, total) if total else None for name, (hits, total) in parts.items()},
    }


def binary_cross_entropy(labels: Labels, probabilities: Probabilities) -> float:
    """The mean loss in nats, with probabilities kept 1e-7 away from 0 and 1 as Keras does."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels == 1, np.log(p), np.log1p(-p))))


def wilson_interval(hits: int, total: int) -> Interval:
    """95% interval of the proportion `hits / total`."""
    share, z2 = hits / total, Z * Z
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return (centre - half if hits else 0.0), (centre + half if hits < total else 1.0)


def auroc_interval(labels: Labels, probabilities: Probabilities) -> Interval | None:
    """95% interval of the area under the ROC curve; None if the variance is undefined: an area of 0 or 1, or fewer
    than two examples of a class."""
    positive, negative = probabilities[labels == 1], probabilities[labels == 0]
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return None
    joint = rankdata(np.concatenate([positive, negative]))
    # The share of the other class that each example is ranked above (below), ties counting half.
    above = (joint[:m] - rankdata(positive)) / n
    below = 1 - (joint[m:] - rankdata(negative)) / m
    error = math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    return _logit_interval(float(above.mean()), error)


def youden_threshold(labels: Labels, probabilities: Probabilities) -> float:
    """The threshold that maximises sensitivity + specificity - 1 (Youden 1950, Cancer 3:32); the highest such one.

    It is halfway to the next lower probability, so that rounding on another machine moves no example across it.
    """
    false_positive, true_positive, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    best = float(thresholds[int(np.argmax(true_positive - false_positive))])
    if math.isinf(best):  # no threshold is better than calling every example negative
        return 1.0
    lower = probabilities[probabilities < best]
    return (best + float(lower.max())) / 2 if len(lower) else best / 2


def _logit_interval(estimate: float, error: float) -> Interval | None:
    if not 0 < estimate < 1 or error == 0:
        return None
    logit, half = math.log(estimate / (1 - estimate)), Z * error / (estimate * (1 - estimate))
    return 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))


def _notes(counts: npt.NDArray[np.int64], auroc: float | None) -> list[str]:
    if auroc is None:
        present = "second" if counts[1] else "first"
        return [f"only examples of the {present} class: figures that need both are null"]
    if auroc in (0.0, 1.0):
        return [f"no interval for an AUROC of {auroc:.0f}: the sample does not show how close the true value is"]
    return []
