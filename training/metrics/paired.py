"""Differences between models that predicted the same examples. NumPy and SciPy only.

- intervals: the percentiles of a bootstrap of the patients (bootstrap.py). Each sample is the same for all models, so what
  is hard for all of them cancels out. Efron and Tibshirani 1993, An Introduction to the Bootstrap, 8.3.
- McNemar's test of who is right more often, exact: McNemar 1947, Psychometrika 12:153, with the binomial distribution.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from training.metrics.bootstrap import Groups, members_of, percentiles, resampled
from training.metrics.several_classes import has_both, mean_areas, one_vs_rest
from training.metrics.weighted import Floats, Labels, Probabilities, Ranking, Statistics, means, rates
from training.task import BINARY, MULTICLASS, Task

_AT_A_THRESHOLD = ("accuracy", "sensitivity", "specificity")


class Predicted(NamedTuple):
    """What a model says of the examples: probabilities, [examples, outputs], and the threshold of each output."""

    probabilities: Probabilities
    thresholds: list[float]


def differences(
    labels: Labels, models: Sequence[Predicted], task: Task, groups: Groups | None = None
) -> list[dict[str, dict[str, Any]]]:
    """For each model but the first, its figures less those of the first: `difference`, None where it is undefined, and its
    95% `interval`, None if no sample shows another difference. All figures are better if they are higher.

    Two classes have accuracy, sensitivity and specificity, at each model's threshold, and auroc; several classes have
    accuracy and macro_auroc; several findings macro_auroc. labels: as in records. groups: the patient of each example,
    [examples]; without them, each example is of another.
    """
    every = {str(number): _statistics(labels, model, task) for number, model in enumerate(models)}
    found = resampled(members_of(groups, len(labels)), **every)
    once = np.ones((1, len(labels)))
    points = {number: statistics(once) for number, statistics in every.items()}
    return [
        {
            name: _difference(points[number][name][0] - point[0], found[number][name] - found["0"][name])
            for name, point in points["0"].items()
        }
        for number in list(every)[1:]
    ]


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """McNemar's exact test. first, second: which examples each model is right about, [examples]. Gives how many only the
    one and only the other is right about, and `p_value`, of both sides: how probable a split at least as uneven is if
    neither is right more often."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total = only_first + only_second
    p_value = float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0
    return {"only_the_first_is_right": only_first, "only_this_is_right": only_second, "p_value": p_value}


def right(labels: Labels, model: Predicted, task: Task) -> npt.NDArray[np.bool_]:
    """Which examples of two or more classes the model is right about, [examples]: at its threshold, or by the most probable
    class."""
    if task.kind == BINARY:
        return np.asarray((model.probabilities[:, 0] >= model.thresholds[0]) == (labels == 1))
    return np.asarray(model.probabilities.argmax(1) == labels)


def _statistics(labels: Labels, model: Predicted, task: Task) -> Statistics:
    if task.kind == BINARY:
        return _of_two_classes(labels, model)
    columns = [
        (of_class[certain], model.probabilities[certain, index], certain)
        for index, (of_class, certain) in enumerate(one_vs_rest(labels, task))
        if has_both(of_class[certain])
    ]
    parts: list[Statistics] = []
    if task.kind == MULTICLASS:
        parts.append(means(accuracy=right(labels, model, task).astype(np.float64)))
    if columns:
        areas = mean_areas([(some, scores) for some, scores, _ in columns], np.stack([c for *_, c in columns], axis=1))
        parts.append(lambda weights: {"macro_auroc": areas(weights)["auroc"]})
    return lambda weights: {name: figure for part in parts for name, figure in part(weights).items()}


def _of_two_classes(labels: Labels, model: Predicted) -> Statistics:
    ranking = Ranking(labels, model.probabilities[:, 0])
    of_cell = np.eye(4)[2 * labels + (model.probabilities[:, 0] >= model.thresholds[0])]

    def statistics(weights: Floats) -> dict[str, Floats]:
        at_threshold = rates(weights @ of_cell)
        return {
            **{name: at_threshold[name] for name in _AT_A_THRESHOLD},
            "auroc": ranking.areas(weights)["auroc"],
        }

    return statistics


def _difference(point: float, found: Floats) -> dict[str, Any]:
    if np.isnan(point):
        return {"difference": None, "interval": None}
    return {"difference": float(point), "interval": percentiles(found)}
