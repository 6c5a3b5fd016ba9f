"""Metrics of a classifier of more than two classes, or of several findings per image: each class against the rest, and
averages.

- macro: the mean over the classes; micro: every (image, class) is one example.
- Intervals of averages: the percentiles of a bootstrap over the images, which keeps the dependence between the classes
of an image.
  Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. Each class has the intervals of metrics.py.
- A finding that is UNCERTAIN in an image counts in no metric of that finding.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from schemas.labels import UNCERTAIN
from training.assessment.metrics import (
    Labels,
    Probabilities,
    binary_cross_entropy,
    evaluate_predictions,
    wilson_interval,
)
from training.task import BINARY, MULTICLASS, MULTILABEL, Task

RESAMPLES = 1000
_SEED = 0
_AREAS = {"auroc": roc_auc_score, "auprc": average_precision_score}

Certain = npt.NDArray[np.bool_]


def one_vs_rest(labels: Labels, task: Task) -> Iterator[tuple[Labels, Certain]]:
    """For each output of the model: labels [examples], 0 or 1, and which of them are certain. `labels` are those of records:
    [examples], or [examples, classes] if images have several."""
    if task.kind == BINARY:
        yield labels, np.ones(len(labels), bool)
        return
    for index in range(len(task.classes)):
        of_class = labels[:, index] if task.kind == MULTILABEL else labels == index
        yield (of_class == 1).astype(np.int64), of_class != UNCERTAIN if task.kind == MULTILABEL else of_class >= 0


def has_both(labels: Labels) -> bool:
    """Whether there are positive and negative examples."""
    return bool(len(labels)) and 0 < labels.sum() < len(labels)


def evaluate_classes(
    labels: Labels, probabilities: Probabilities, thresholds: list[float], task: Task
) -> dict[str, Any]:
    """All metrics of one split, ready for JSON. Those of a class that has only positive or only negative examples are
    None, and the averages leave it out.

    labels: of records (see one_vs_rest). probabilities: [examples, classes]. thresholds: of each class against the rest.
    """
    columns = list(one_vs_rest(labels, task))
    per_class = {}
    for index, (name, (of_class, certain)) in enumerate(zip(task.classes, columns, strict=True)):
        some = of_class[certain], probabilities[certain, index]
        figures = evaluate_predictions(*some, thresholds[index]) if certain.any() else None
        per_class[name] = {
            "positives": int(of_class[certain].sum()),
            "threshold": thresholds[index],
            "figures": figures,
        }
    defined = [index for index, (of_class, certain) in enumerate(columns) if has_both(of_class[certain])]
    undefined = [name for index, name in enumerate(task.classes) if index not in defined]
    return {
        "examples": len(labels),
        "task": task.kind,
        **(_multiclass(labels, probabilities) if task.kind == MULTICLASS else _multilabel(columns, probabilities)),
        **_averages([columns[index] for index in defined], probabilities[:, defined]),
        "per_class": per_class,
        "notes": [
            f"no area for {name}: the split has only positive or only negative examples of it" for name in undefined
        ],
    }


def _multiclass(labels: Labels, probabilities: Probabilities) -> dict[str, Any]:
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    matrix = np.bincount(classes * labels + predicted, minlength=classes**2).reshape(classes, classes)
    hits, total = int(np.trace(matrix)), len(labels)
    chosen = np.clip(probabilities[np.arange(total), labels], 1e-7, 1.0)
    return {
        "loss": float(-np.log(chosen).mean()),
        "accuracy": hits / total,
        "accuracy_interval": wilson_interval(hits, total),
        "confusion_matrix": matrix.tolist(),
        "majority_class_accuracy": float(matrix.sum(1).max() / total),
    }


def _multilabel(columns: list[tuple[Labels, Certain]], probabilities: Probabilities) -> dict[str, Any]:
    losses = [
        binary_cross_entropy(of_class[certain], probabilities[certain, index]) * certain.mean()
        for index, (of_class, certain) in enumerate(columns)
        if certain.any()
    ]
    return {"loss": float(np.sum(losses) / len(columns))}


def _averages(columns: list[tuple[Labels, Certain]], probabilities: Probabilities) -> dict[str, Any]:
    """Macro and micro averages of the areas, with 95% intervals."""
    if not columns:
        return {"macro": None, "micro": None}
    labels, certain = (np.stack(each, axis=1) for each in zip(*columns, strict=True))
    rng = np.random.default_rng(_SEED)
    sorts = [
        _Sorted(labels[certain[:, c], c], probabilities[certain[:, c], c], np.flatnonzero(certain[:, c]))
        for c in range(labels.shape[1])
    ]
    rows = np.nonzero(certain)[0]
    pooled = _Sorted(labels[certain], probabilities[certain], rows)
    resampled: dict[str, list[tuple[float, float]]] = {"macro": [], "micro": []}
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(0, len(labels), len(labels)), minlength=len(labels)).astype(float)
        areas = [found for each in sorts if (found := each.areas(weights)) is not None]
        if areas:
            resampled["macro"].append(tuple(np.mean(areas, axis=0)))
        if (of_all := pooled.areas(weights)) is not None:
            resampled["micro"].append(of_all)
    points = {
        "macro": {
            name: float(
                np.mean([area(labels[certain[:, c], c], probabilities[certain[:, c], c]) for c in range(len(columns))])
            )
            for name, area in _AREAS.items()
        },
        "micro": {name: float(area(labels[certain], probabilities[certain])) for name, area in _AREAS.items()},
    }
    return {
        kind: {
            "classes": len(columns),
            **point,
            "intervals": {
                name: _percentiles([found[place] for found in resampled[kind]]) for place, name in enumerate(_AREAS)
            },
            "method": f"percentiles of {RESAMPLES} bootstrap samples of the images",
        }
        for kind, point in points.items()
    }


def _percentiles(found: list[float]) -> tuple[float, float]:
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


class _Sorted:
    """Examples sorted once, of which every bootstrap sample is a vector of weights."""

    def __init__(self, labels: Labels, probabilities: Probabilities, rows: npt.NDArray[np.int64]) -> None:
        order = np.argsort(-probabilities, kind="stable")
        self._positive, self._rows = labels[order] == 1, rows[order]
        # Examples of equal probability are one step of the curves.
        self._ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)

    def areas(self, weights: npt.NDArray[np.float64]) -> tuple[float, float] | None:
        """The areas under the ROC curve and the precision-recall curve (average precision) if image i counts weights[i]
        times; None without positive or negative examples."""
        mine = weights[self._rows]
        hits = np.cumsum(mine * self._positive)[self._ends]
        alarms = np.cumsum(mine * ~self._positive)[self._ends]
        if not hits[-1] or not alarms[-1]:
            return None
        steps = np.diff(hits, prepend=0.0)
        roc = float(np.sum(np.diff(alarms, prepend=0.0) * (hits - steps / 2)) / (hits[-1] * alarms[-1]))
        some = steps > 0
        return roc, float(np.sum(steps[some] * hits[some] / (hits[some] + alarms[some])) / hits[-1])
