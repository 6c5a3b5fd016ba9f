"""Temperature scaling: one number, fitted on the validation split, that makes probabilities less (or more) extreme.

Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks, ICML, PMLR 70:1321. The logits are divided by
the temperature, so no order changes (but probabilities within 1e-7 of 0, or of 1, become equal), and no decision if the
threshold is scaled too. Several findings share a temperature.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from schemas.labels import UNCERTAIN
from schemas.prediction import logits_of, tempered
from training.metrics.bootstrap import Groups, members_of, resampled
from training.metrics.reliability import Reliability
from training.metrics.weighted import Floats, Labels, Probabilities
from training.runs.run_folder import RunConfig
from training.task import BINARY, MULTICLASS, MULTILABEL, Task

LEAST, MOST = 1e-2, 1e2  # temperature


def fit_temperature(labels: Labels, probabilities: Probabilities, task: Task) -> float:
    """The temperature with the lowest negative log-likelihood, between LEAST and MOST.

    labels: of records, [examples] or [examples, classes]; uncertain findings do not count. probabilities: [examples, outputs
    of the model].
    """
    certain = labels != UNCERTAIN if task.kind == MULTILABEL else np.ones(labels.shape, bool)
    if not certain.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits_of(probabilities, task.kind == MULTICLASS) / np.exp(log_temperature)
        if task.kind == MULTICLASS:
            return -float(log_softmax(scaled, axis=1)[np.arange(len(labels)), labels].mean())
        margins = scaled[:, 0] if task.kind == BINARY else scaled
        signs = np.where(labels == 1, 1.0, -1.0)
        return float(np.logaddexp(0.0, -signs * margins)[certain].mean())

    found = minimize_scalar(loss, bounds=(np.log(LEAST), np.log(MOST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def scaled(probabilities: Probabilities, temperature: float, task: Task) -> Probabilities:
    """The probabilities with their logits divided by the temperature, [examples, outputs of the model]."""
    return tempered(probabilities, temperature, task.kind == MULTICLASS)


def calibrated(probabilities: Probabilities, run: RunConfig) -> Probabilities:
    """The probabilities of a run's model, float64 [examples, outputs of the model], as calibrated on its validation split;
    as they are, for a run without a temperature. The run's thresholds apply to those of the model, not to these."""
    return scaled(probabilities, float(run.calibration["temperature"]), run.task) if run.calibration else probabilities


def calibration_figures(
    labels: Labels, probabilities: Probabilities, run: RunConfig, groups: Groups | None = None
) -> dict[str, Any]:
    """ECE, Brier score and reliability bins with 95% intervals, before and after scaling, ready for JSON.

    Two classes: of the second class' probability. Several: ECE and bins of the most probable class' probability, as in Guo
    et al.; the Brier score of all. Findings: every certain (image, finding) is one example. labels: of records; groups:
    the patient of each example, [examples].
    """
    after = calibrated(probabilities, run)
    return {
        "temperature": float(run.calibration["temperature"]) if run.calibration else 1.0,
        "before": _reliability(labels, probabilities, run.task, groups),
        "after": _reliability(labels, after, run.task, groups),
    }


def _reliability(
    labels: Labels, probabilities: Probabilities, task: Task, groups: Groups | None
) -> dict[str, Any] | None:
    """None if no finding is certain."""
    members = members_of(groups, len(labels))
    if task.kind == BINARY:
        reliability = Reliability(probabilities[:, 0], labels, (probabilities[:, 0] - labels) ** 2)
    elif task.kind == MULTICLASS:
        errors: Floats = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1)
        right = (probabilities.argmax(1) == labels).astype(np.int64)
        reliability = Reliability(probabilities.max(1), right, errors)
    else:
        certain = labels != UNCERTAIN
        if not certain.any():
            return None
        members = np.unique(members[np.nonzero(certain)[0]], return_inverse=True)[1].astype(np.int64)
        every, present = probabilities[certain], labels[certain]
        reliability = Reliability(every, present, (every - present) ** 2)
    found = resampled(members, reliability=reliability.statistics)["reliability"]
    return reliability.figures(found, members)
