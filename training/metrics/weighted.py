"""Figures of examples that count several times or not at all, for all samples of a bootstrap at once. NumPy only.

`weights` are float64 [samples, examples], whole numbers: how often each example counts. Each figure is float64 [samples],
and NaN where it is undefined.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]
Statistics = Callable[[Floats], Mapping[str, Floats]]  # weights -> figures by name


class Ranking:
    """Examples of two classes, sorted once by their probability. labels: 0 or 1; both [examples]."""

    def __init__(self, labels: Labels, probabilities: Probabilities) -> None:
        self._order = np.argsort(-probabilities, kind="stable")
        self._positive = (labels[self._order] == 1).astype(np.float64)
        # Examples of equal probability are one step of the curves.
        self._ends = np.append(np.flatnonzero(np.diff(probabilities[self._order])), len(labels) - 1)

    def areas(self, weights: Floats) -> dict[str, Floats]:
        """The areas under the ROC curve and the precision-recall curve (average precision)."""
        mine = weights[:, self._order]
        called = np.cumsum(mine, axis=1)[:, self._ends]
        hits = np.cumsum(mine * self._positive, axis=1)[:, self._ends]
        alarms = called - hits
        more = np.diff(hits, axis=1, prepend=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(called > 0, hits / called, 0.0)
            under_roc = np.sum(np.diff(alarms, axis=1, prepend=0.0) * (hits - more / 2), axis=1)
            defined = np.where(hits[:, -1] * alarms[:, -1] > 0, 1.0, np.nan)
            return {
                "auroc": defined * under_roc / (hits[:, -1] * alarms[:, -1]),
                "auprc": defined * np.sum(more * precision, axis=1) / hits[:, -1],
            }


def rates(cells: Floats, prevalence: float | None = None) -> dict[str, Floats]:
    """The figures of confusion matrices [..., 4]: true negatives, false positives, false negatives, true positives. With a
    `prevalence`, the predictive values where the second class has this share (Bayes' theorem).

    MCC: Matthews 1975, Biochim Biophys Acta 405:442.
    """
    tn, fp, fn, tp = np.moveaxis(cells, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        found = {
            "accuracy": (tp + tn) / cells.sum(-1),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "mcc": (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
        }
        if prevalence is not None:
            hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
            passed, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
            found |= {PPV_AT: hits / (hits + alarms), NPV_AT: passed / (passed + missed)}
    return found


PPV_AT, NPV_AT = "ppv_at_prevalence", "npv_at_prevalence"


def means(**values: Floats) -> Statistics:
    """The statistics that are means of a value of each example, [examples]."""
    return lambda weights: {name: weights @ value / weights.sum(1) for name, value in values.items()}
