"""The spread of figures over runs that differ in their seed only: mean, standard deviation, range. NumPy only."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

AT_HALF = "at_threshold_0.5"  # of metrics.json too
_AT_A_THRESHOLD = ("accuracy", "sensitivity", "specificity")
_OVERALL = ("auroc", "auprc", "loss")


def spread_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`figures` and `at_threshold_0.5` of several contents of metrics.json: for each figure its `values`, and their `mean`,
    `sd`, `min` and `max`, as in `spread`.

    Of more than two classes, the areas are macro averages, and there are no figures at 0.5.
    """
    each = [_figures(metrics) for metrics in runs]
    half = [{name: metrics[AT_HALF][name] for name in _AT_A_THRESHOLD} for metrics in runs if AT_HALF in metrics]
    return {"figures": _by_name(each), AT_HALF: _by_name(half)}


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """The mean, the standard deviation of a sample (divided by n - 1) and the range of the values that are defined. Each is
    None if there are too few."""
    defined = np.array([value for value in values if value is not None])
    if not len(defined):
        return {"mean": None, "sd": None, "min": None, "max": None, "values": list(values)}
    return {
        "mean": float(defined.mean()),
        "sd": float(defined.std(ddof=1)) if len(defined) > 1 else None,
        "min": float(defined.min()),
        "max": float(defined.max()),
        "values": list(values),
    }


def _figures(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    if "per_class" not in metrics:
        return {name: metrics[name] for name in (*_AT_A_THRESHOLD, *_OVERALL)}
    macro = metrics["macro"] or {}
    accuracy = {"accuracy": metrics["accuracy"]} if "accuracy" in metrics else {}
    return {**accuracy, **{f"macro_{name}": macro.get(name) for name in ("auroc", "auprc")}, "loss": metrics["loss"]}


def _by_name(each: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    return {name: spread([figures[name] for figures in each]) for name in (each[0] if each else ())}
