"""Metrics of a classifier of more than two classes, or of several findings per image: each class against the rest, and
averages.

- macro: the mean over the classes; micro: every (image, class) is one example.
- Intervals of averages, the loss and the scores of several classes: the percentiles of a bootstrap of the patients
  (bootstrap.py), which also keeps the dependence between the classes of an image. Each class has those of two_classes.py.
- Several classes together have the balanced accuracy, the mean of the classes' sensitivities, and the MCC of Gorodkin 2004,
  Comput Biol Chem 28:367. Those that are undefined, as a class is missing, are None.
- A finding that is UNCERTAIN in an image counts in no metric of that finding.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from schemas.labels import UNCERTAIN
from training.metrics.bootstrap import (
    Groups,
    Members,
    independent,
    members_of,
    percentiles,
    proportion_interval,
    resampled,
)
from training.metrics.two_classes import BOOTSTRAP, evaluate_predictions, losses_of
from training.metrics.weighted import Floats, Labels, Probabilities, Ranking, Statistics, means
from training.task import BINARY, MULTICLASS, MULTILABEL, Task

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
    labels: Labels,
    probabilities: Probabilities,
    thresholds: list[float],
    task: Task,
    groups: Groups | None = None,
) -> dict[str, Any]:
    """All metrics of one split, ready for JSON. Those of a class that has only positive or only negative examples are
    None, and the averages leave it out.

    labels: of records (see one_vs_rest). probabilities: [examples, classes]. thresholds: of each class against the rest.
    groups: the patient of each example, [examples]; without them, each example is of another.
    """
    columns = list(one_vs_rest(labels, task))
    members = members_of(groups, len(labels))
    defined = [index for index, (of_class, certain) in enumerate(columns) if has_both(of_class[certain])]
    undefined = [name for index, name in enumerate(task.classes) if index not in defined]
    whole = (
        _multiclass(labels, probabilities, members)
        if task.kind == MULTICLASS
        else _multilabel(columns, probabilities, members)
    )
    return {
        "examples": len(labels),
        "patients": int(members.max()) + 1,
        "task": task.kind,
        **whole,
        **_averages([columns[index] for index in defined], probabilities[:, defined], members),
        "per_class": {
            name: _one_class(of_class[certain], probabilities[certain, index], thresholds[index], members[certain])
            for index, (name, (of_class, certain)) in enumerate(zip(task.classes, columns, strict=True))
        },
        "notes": [
            f"no area for {name}: the split has only positive or only negative examples of it" for name in undefined
        ],
    }


def _one_class(labels: Labels, probabilities: Probabilities, threshold: float, members: Members) -> dict[str, Any]:
    figures = evaluate_predictions(labels, probabilities, threshold, members) if len(labels) else None
    return {"positives": int(labels.sum()), "threshold": threshold, "figures": figures}


def _multiclass(labels: Labels, probabilities: Probabilities, members: Members) -> dict[str, Any]:
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    cell = classes * labels + predicted
    matrix = np.bincount(cell, minlength=classes**2).reshape(classes, classes)
    hits, total = int(np.trace(matrix)), len(labels)
    losses = -np.log(np.clip(probabilities[np.arange(total), labels], 1e-7, 1.0))
    of_cell = np.eye(classes**2)[cell]
    found = resampled(
        members,
        scores=lambda weights: _scores((weights @ of_cell).reshape(-1, classes, classes)),
        loss=means(loss=losses),
    )
    scores = {name: float(value) for name, value in _scores(matrix.astype(float)).items() if not np.isnan(value)}
    return {
        "loss": float(losses.mean()),
        "accuracy": hits / total,
        "accuracy_interval": proportion_interval(
            predicted == labels, members, found["scores"]["accuracy"], independent(members)
        ),
        "balanced_accuracy": scores.get("balanced_accuracy"),
        "mcc": scores.get("mcc"),
        "confusion_matrix": matrix.tolist(),
        "majority_class_accuracy": float(matrix.sum(1).max() / total),
        "intervals": {
            "loss": percentiles(found["loss"]["loss"]),
            **{
                name: percentiles(found["scores"][name]) if name in scores else None
                for name in ("balanced_accuracy", "mcc")
            },
        },
    }


def _scores(matrix: Floats) -> dict[str, Floats]:
    """Figures of confusion matrices [..., classes, classes]."""
    true, predicted, total = matrix.sum(-1), matrix.sum(-2), matrix.sum((-2, -1))
    hits = np.trace(matrix, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (total**2 - (true**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
        return {
            "accuracy": hits / total,
            "balanced_accuracy": (np.diagonal(matrix, axis1=-2, axis2=-1) / true).mean(-1),
            "mcc": (hits * total - (true * predicted).sum(-1)) / np.sqrt(spread),
        }


def _multilabel(
    columns: list[tuple[Labels, Certain]], probabilities: Probabilities, members: Members
) -> dict[str, Any]:
    """The loss: the mean over the findings, of which each certain image counts."""
    certain = np.stack([certain for _, certain in columns], axis=1)
    losses = losses_of(np.stack([labels for labels, _ in columns], axis=1), probabilities) * certain
    of_image = losses.mean(1)
    found = resampled(members, loss=means(loss=of_image))
    return {"loss": float(of_image.mean()), "intervals": {"loss": percentiles(found["loss"]["loss"])}}


def _averages(columns: list[tuple[Labels, Certain]], probabilities: Probabilities, members: Members) -> dict[str, Any]:
    """Macro and micro averages of the areas, with 95% intervals."""
    if not columns:
        return {"macro": None, "micro": None}
    labels, certain = (np.stack(each, axis=1) for each in zip(*columns, strict=True))
    each = [(labels[certain[:, c], c], probabilities[certain[:, c], c]) for c in range(len(columns))]
    every = labels[certain], probabilities[certain]
    found = resampled(members, macro=mean_areas(each, certain), micro=_areas(*every, np.nonzero(certain)[0]))
    points = {
        "macro": {name: float(np.mean([area(*of_class) for of_class in each])) for name, area in _AREAS.items()},
        "micro": {name: float(area(*every)) for name, area in _AREAS.items()},
    }
    return {
        kind: {
            "classes": len(columns),
            **point,
            "intervals": {name: percentiles(found[kind][name]) for name in _AREAS},
            "method": BOOTSTRAP,
        }
        for kind, point in points.items()
    }


def _areas(labels: Labels, probabilities: Probabilities, rows: npt.NDArray[np.int64]) -> Statistics:
    """The areas of examples of which each is (also) the image in that row of the split."""
    ranking = Ranking(labels, probabilities)
    return lambda weights: ranking.areas(weights[:, rows])


def mean_areas(each: list[tuple[Labels, Probabilities]], certain: Certain) -> Statistics:
    """The means over the classes that have positive and negative examples in a sample."""
    of_classes = [_areas(*some, np.flatnonzero(certain[:, c])) for c, some in enumerate(each)]

    def statistics(weights: Floats) -> dict[str, Floats]:
        found = [areas(weights) for areas in of_classes]
        return {name: _mean_of_defined(np.stack([areas[name] for areas in found])) for name in _AREAS}

    return statistics


def _mean_of_defined(values: Floats) -> Floats:
    """Over the first axis; NaN where nothing is defined."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(defined, values, 0.0).sum(0) / defined.sum(0)
    return mean
