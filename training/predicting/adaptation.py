"""`--adapt_prior`: probabilities corrected for the shares of the classes among unlabelled images of another place.

It is for two or more classes, not for findings: each finding would need a correction of its own. The correction
(decisions/prior.py) is of probabilities that are calibrated with a bias (bias.py). The class is decided so that the run's
operating point keeps its meaning:

youden, sensitivity, specificity   the threshold stays. These are rates within a class, and images of a class are assumed to
                                   look alike in both places, so the rates stay too
cost, fixed                        the second class is predicted if its corrected probability reaches the threshold,
                                   calibrated in the same way. As odds are prior odds times the likelihood ratio, this equals
                                   dividing the odds of that threshold by the ratio of the prior odds, there to validation
several classes                    the class with the highest corrected probability is predicted
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.errors import JobFailed, UsageError
from training.decisions.operating_points import COST, FIXED, operating_point
from training.decisions.prior import Correction, adapt_prior
from training.predicting.bias import bias_corrected
from training.runs.run_folder import RunConfig
from training.task import BINARY, MULTILABEL

FEW = 50  # images, of which a prior is a rough guess

Probabilities = npt.NDArray[np.float64]


class Adaptation(NamedTuple):
    """prior: the estimated share of each class, float64 [classes]. correct: from probabilities of the model, float64
    [images, outputs of the model], to corrected ones. run: as it decides the class from corrected probabilities; None if the
    class stays as it is."""

    prior: Probabilities
    correct: Correction
    run: RunConfig | None


def check_adaptable(name: str, run: RunConfig) -> None:
    """Raises UsageError if the run has no classes, or does not say what the correction starts from."""
    if run.task.kind == MULTILABEL:
        raise UsageError(f"--adapt_prior is for classes; run {name} finds several findings per image")
    if run.adaptation is None:
        raise UsageError(
            f"--adapt_prior: run {name} was finished by an earlier release, or its validation split lacks a class; finish "
            "it again with python -m training.train --resume"
        )


def adapted(folder: str, probabilities: Iterable[Probabilities], run: RunConfig) -> Adaptation:
    """The adaptation of a run, which `check_adaptable` has passed, to the images of `folder`. probabilities: of the model,
    in batches [images, outputs of the model]. Says on stderr what was found. Raises JobFailed if there is no image."""
    fitted = run.adaptation or {}
    found = [bias_corrected(batch, fitted) for batch in probabilities if len(batch)]
    if not found:
        raise JobFailed(f"--adapt_prior {folder}: no image that could be read is within the scope of the run")
    every = np.concatenate(found)
    prior, correct = adapt_prior(every, fitted["prior"])
    few = f"; fewer than {FEW} images give a rough guess" if len(every) < FEW else ""
    print(
        f"prior of {folder}, from {len(every)} images: {_shares(run.classes, prior)} "
        f"(in validation: {_shares(run.classes, fitted['prior'])}){few}",
        file=sys.stderr,
    )
    return Adaptation(prior, lambda some: correct(bias_corrected(some, fitted)), _deciding(run))


def _deciding(run: RunConfig) -> RunConfig | None:
    if run.task.kind != BINARY:
        return run
    if operating_point(run.operating_point).kind not in (COST, FIXED):
        return None
    least = float(bias_corrected(np.array([run.thresholds]), run.adaptation or {})[0, 0])
    return replace(run, threshold={**(run.threshold or {}), "value": least})


def _shares(classes: Sequence[str], shares: Iterable[float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in zip(classes, shares, strict=True))
