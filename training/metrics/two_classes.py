"""Metrics of a binary classifier from labels and probabilities, with 95% intervals. NumPy, SciPy and scikit-learn only.

If each image is of another patient, figures with a formula have the interval of intervals.py. Otherwise, and for all other
figures, intervals come from a bootstrap of the patients (bootstrap.py). `methods` beside the intervals says which.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from training.metrics.bootstrap import (
    RESAMPLES,
    Groups,
    Members,
    independent,
    members_of,
    percentiles,
    proportion_interval,
    resampled,
)
from training.metrics.intervals import Interval, auprc_interval, auroc_interval
from training.metrics.reliability import Reliability
from training.metrics.weighted import NPV_AT, PPV_AT, Floats, Ranking, Statistics, means, rates
from training.metrics.weighted import Labels as Labels
from training.metrics.weighted import Probabilities as Probabilities

HALF = 0.5  # the threshold that is always reported beside the run's own
# Of a confusion matrix as [tn, fp, fn, tp]: the cells of the numerator and the denominator.
PROPORTIONS = {
    "accuracy": ((0, 3), (0, 1, 2, 3)),
    "sensitivity": ((3,), (2, 3)),
    "specificity": ((0,), (0, 1)),
    "ppv": ((3,), (1, 3)),
    "npv": ((0,), (0, 2)),
}
SCORES = ("balanced_accuracy", "f1", "mcc")  # of a confusion matrix, and no proportions
BOOTSTRAP = f"percentiles of {RESAMPLES} bootstrap samples of the patients"
_BY_FORMULA = {
    "accuracy, sensitivity, specificity": "Wilson score",
    "ppv, npv": "Wilson score",
    "auroc": "DeLong, logit scale",
    "auprc": "Boyd et al. 2013, logit",
}
_CLUSTERED = f"{BOOTSTRAP}; at 0 or 1 Wilson score, counting patients"
_BY_BOOTSTRAP = {
    "accuracy, sensitivity, specificity": _CLUSTERED,
    "ppv, npv": _CLUSTERED,
    "auroc": BOOTSTRAP,
    "auprc": BOOTSTRAP,
}
_ALWAYS = {
    "loss, brier, balanced_accuracy, f1, mcc, predictive values at a prevalence": BOOTSTRAP,
    "ece": f"basic interval of {RESAMPLES} bootstrap samples of the patients",
}


def evaluate_predictions(
    labels: Labels,
    probabilities: Probabilities,
    threshold: float,
    groups: Groups | None = None,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """All metrics of one split, ready for JSON. Metrics that need both classes are None, with a note, if one is missing.

    labels: 0 or 1, [examples], at least one. probabilities: of class 1, [examples]. groups: the patient of each example,
    [examples]; without them, each example is of another. prevalence: for which the predictive values are given too.
    """
    counts = np.bincount(labels, minlength=2)
    members = members_of(groups, len(labels))
    parts = _parts(labels, probabilities, threshold, members, prevalence)
    half, intervals = parts.pop("half"), {"loss": parts.pop("loss")}
    for part in parts.values():
        intervals |= part.pop("intervals")
    return {
        "examples": len(labels),
        "patients": int(members.max()) + 1,
        "prevalence": float(counts[1] / counts.sum()),
        "loss": binary_cross_entropy(labels, probabilities),
        **{name: parts["calibration"][name] for name in ("brier", "ece")},
        **parts["own"],
        **parts["areas"],
        "majority_class_accuracy": float(counts.max() / counts.sum()),
        "intervals": {**intervals, "level": 0.95, "methods": _methods(members)},
        "at_threshold_0.5": half,
        "notes": _notes(counts, parts["areas"]["auroc"]),
    }


def _parts(
    labels: Labels, probabilities: Probabilities, threshold: float, members: Members, prevalence: float | None
) -> dict[str, Any]:
    """Figures with their `intervals`, all from the same samples: `own` and `half` at the two thresholds, `areas` and
    `calibration`; and the interval of the `loss`."""
    own, half = (_Point(labels, probabilities, at, prevalence) for at in (threshold, HALF))
    reliability = Reliability(probabilities, labels, (probabilities - labels) ** 2)
    found = resampled(
        members,
        own=own.statistics,
        half=half.statistics,
        areas=Ranking(labels, probabilities).areas,
        loss=means(loss=losses_of(labels, probabilities)),
        reliability=reliability.statistics,
    )
    return {
        "own": own.figures(found["own"], members),
        "half": half.figures(found["half"], members),
        "areas": _areas(labels, probabilities, members, found["areas"]),
        "calibration": reliability.figures(found["reliability"], members),
        "loss": percentiles(found["loss"]["loss"]),
    }


def operating_point(
    labels: Labels,
    probabilities: Probabilities,
    threshold: float,
    groups: Groups | None = None,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """The figures that depend on a threshold, their intervals and the confusion matrix (rows true, columns predicted) where
    a probability of at least `threshold` means class 1. Figures that would divide by 0 are None. The arguments are those
    of evaluate_predictions."""
    point = _Point(labels, probabilities, threshold, prevalence)
    members = members_of(groups, len(labels))
    return point.figures(resampled(members, point=point.statistics)["point"], members)


class _Point:
    """Examples at one threshold."""

    def __init__(
        self, labels: Labels, probabilities: Probabilities, threshold: float, prevalence: float | None
    ) -> None:
        self._cell = 2 * labels + (probabilities >= threshold)
        self._prevalence = prevalence

    @property
    def statistics(self) -> Statistics:
        """The figures of a sample."""
        of_cell = np.eye(4)[self._cell]
        return lambda weights: rates(weights @ of_cell, self._prevalence)

    def figures(self, found: Mapping[str, Floats], members: Members) -> dict[str, Any]:
        """The figures, with intervals from those of the samples."""
        cells = np.bincount(self._cell, minlength=4)
        values = {name: _defined(value) for name, value in rates(cells.astype(float), self._prevalence).items()}
        intervals = {
            name: None if values[name] is None else self._interval(name, found[name], members) for name in PROPORTIONS
        }
        intervals |= {name: None if values[name] is None else percentiles(found[name]) for name in SCORES}
        figures: dict[str, Any] = {
            **{name: values[name] for name in (*PROPORTIONS, *SCORES)},
            "confusion_matrix": cells.reshape(2, 2).tolist(),
            "intervals": intervals,
        }
        if self._prevalence is not None:
            figures["at_prevalence"] = {
                "prevalence": self._prevalence,
                **{name: values[at] for name, at in (("ppv", PPV_AT), ("npv", NPV_AT))},
                "intervals": {name: percentiles(found[at]) for name, at in (("ppv", PPV_AT), ("npv", NPV_AT))},
            }
        return figures

    def _interval(self, name: str, found: Floats, members: Members) -> Interval | None:
        hits, total = (np.isin(self._cell, some) for some in PROPORTIONS[name])
        return proportion_interval(hits[total], members[total], found, independent(members))


def binary_cross_entropy(labels: Labels, probabilities: Probabilities) -> float:
    """The mean loss in nats, with probabilities kept 1e-7 away from 0 and 1 as Keras does."""
    return float(np.mean(losses_of(labels, probabilities)))


def losses_of(labels: Labels, probabilities: Probabilities) -> Floats:
    """The loss of each probability, as in binary_cross_entropy, in the shape of both arguments."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    losses: Floats = -np.where(labels == 1, np.log(p), np.log1p(-p))
    return losses


def _areas(
    labels: Labels, probabilities: Probabilities, members: Members, found: Mapping[str, Floats]
) -> dict[str, Any]:
    """The areas and their intervals; None if a class is missing."""
    if labels.min() == labels.max():
        return {"auroc": None, "auprc": None, "intervals": {"auroc": None, "auprc": None}}
    auroc = float(roc_auc_score(labels, probabilities))
    auprc = float(average_precision_score(labels, probabilities))
    intervals = {name: percentiles(values) for name, values in found.items()}
    if independent(members):
        intervals = {
            "auroc": auroc_interval(labels, probabilities),
            "auprc": auprc_interval(auprc, int(labels.sum())),
        }
    return {"auroc": auroc, "auprc": auprc, "intervals": intervals}


def _methods(members: Members) -> dict[str, str]:
    """How the intervals were made."""
    return {**(_BY_FORMULA if independent(members) else _BY_BOOTSTRAP), **_ALWAYS}


def _defined(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)


def _notes(counts: npt.NDArray[np.int64], auroc: float | None) -> list[str]:
    if auroc is None:
        present = "second" if counts[1] else "first"
        return [f"only examples of the {present} class: figures that need both are null"]
    if auroc in (0.0, 1.0):
        return [f"no interval for an AUROC of {auroc:.0f}: the sample does not show how close the true value is"]
    return []
