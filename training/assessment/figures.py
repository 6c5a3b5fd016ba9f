"""The figures of a run on one split, ready for metrics.json: of all examples, of the calibration, and of subgroups."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from training.assessment.predictions import Predictions
from training.assessment.subgroups import FLAG, members
from training.decisions.calibration import calibration_figures
from training.metrics.several_classes import evaluate_classes
from training.metrics.two_classes import evaluate_predictions
from training.runs.run_folder import RunConfig
from training.task import BINARY


def figures_of(found: Predictions, run: RunConfig, prevalence: float | None = None) -> dict[str, Any]:
    """All figures, those of two_classes.py or several_classes.py, and `calibration`. prevalence: of the second of two
    classes, for which the predictive values are given too."""
    calibration = calibration_figures(found.labels, found.probabilities, run, found.groups)
    return {**_figures(found, run, prevalence), "calibration": calibration}


def subgroup_figures(
    found: Predictions, run: RunConfig, subgroups: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, Any]]:
    """The figures of the examples of each value, by column and value. Of two classes, a value whose examples are all of one
    class also has `against_the_other_class`: the areas if all examples of the other class are added.

    Raises UsageError if no example has a value.
    """
    figures: dict[str, dict[str, Any]] = {}
    for column, value, inside in members(subgroups, found.ids):
        of_value = _figures(_part(found, inside), run)
        label = found.labels[inside].min()
        if run.task.kind == BINARY and label == found.labels[inside].max():
            against = _figures(_part(found, inside | (found.labels != label)), run)
            of_value["against_the_other_class"] = {
                **{name: against[name] for name in ("examples", "auroc", "auprc")},
                "intervals": {name: against["intervals"][name] for name in ("auroc", "auprc")},
            }
        figures.setdefault(column, {})[value] = of_value
    if not figures:
        raise UsageError(
            f"{FLAG}: it names none of the {len(found.ids)} examples; ids are those of the records, paths are below the "
            "--input of the conversion, and --id_key_file must be the one that it had"
        )
    return figures


def _figures(found: Predictions, run: RunConfig, prevalence: float | None = None) -> dict[str, Any]:
    if run.task.kind == BINARY:
        (threshold,) = run.thresholds
        return evaluate_predictions(found.labels, found.probabilities[:, 0], threshold, found.groups, prevalence)
    return evaluate_classes(found.labels, found.probabilities, run.thresholds, run.task, found.groups)


def _part(found: Predictions, inside: npt.NDArray[np.bool_]) -> Predictions:
    ids = [id for id, its in zip(found.ids, inside, strict=True) if its]
    return Predictions(found.labels[inside], found.probabilities[inside], found.groups[inside], ids)
