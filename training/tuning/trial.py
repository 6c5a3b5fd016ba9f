"""One trial: a recipe with other values, trained, and how good it is on validation and on the corruption suite."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from optuna import TrialPruned
from optuna.trial import Trial
from sklearn.metrics import roc_auc_score

from schemas.errors import JobFailed
from training.config import TrainConfig, TuneConfig
from training.fitting.fit import train
from training.runs.run_folder import load_run, read_history
from training.shifts.corruptions import CORRUPTIONS, corrupt
from training.shifts.examples import Labelled
from training.shifts.figures import probabilities
from training.tuning.space import suggest, with_values

TRIALS = "trials"  # in the output folder
VALUES, VALIDATION_AUROC, CORRUPTED_AUROC, REASON = "values", "validation_auroc", "corrupted_auroc", "reason"
TRIED_SEVERITIES = (3, 5)  # the worst is nearly always one of these, and all five take longer than a short training


def score_of(trial: Trial, config: TuneConfig, validation: Labelled, parent: int | None = None) -> float:
    """The mean of the AUROC on validation and of `corrupted_auroc`.

    The trial's values, both parts and, of a trial that is pruned, the reason become its attributes. A trial is pruned by
    the validation AUC of an epoch, or if its loss is not a number. `parent`: the process to end with.
    """
    values = suggest(trial, config.recipe)
    trial.set_user_attr(VALUES, values)
    recipe = with_values(config.recipe, values)
    output = Path(config.output, TRIALS, f"{trial.number:04d}")
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.clear_session()  # else the graphs of all models stay in memory
    settings = TrainConfig(config.data, str(output), recipe, config.seed, overwrite=True)
    try:
        with output.with_name(f"{output.name}.log").open("w") as log, contextlib.redirect_stdout(log):
            train(settings, _reporting(trial, str(output), parent))
    except JobFailed as error:
        trial.set_user_attr(REASON, str(error))
        raise TrialPruned(str(error)) from error
    model, _ = load_run(str(output), recipe)
    clean = float(roc_auc_score(validation.labels, probabilities(model, validation.images)))
    corrupted = corrupted_auroc(model, validation, config.seed)
    trial.set_user_attr(VALIDATION_AUROC, clean)
    trial.set_user_attr(CORRUPTED_AUROC, corrupted)
    return (clean + corrupted) / 2


def corrupted_auroc(model: keras.Model, validation: Labelled, seed: int) -> float:
    """For each corruption the lower AUROC of TRIED_SEVERITIES, averaged over the corruptions."""
    return float(
        np.mean(
            [
                min(
                    roc_auc_score(
                        validation.labels, probabilities(model, corrupt(validation.images, name, severity, seed))
                    )
                    for severity in TRIED_SEVERITIES
                )
                for name in CORRUPTIONS
            ]
        )
    )


def _reporting(trial: Trial, output: str, parent: int | None) -> Callable[[], None]:
    """What is done after each epoch: it reports the validation AUC, and ends the trial if it should be pruned."""
    reported = 0

    def report() -> None:
        nonlocal reported
        if parent is not None and os.getppid() != parent:
            raise SystemExit  # the command was killed, and nobody would stop this process
        row: dict[str, Any] = read_history(output)[-1]
        epoch = int(row["epoch"])
        if epoch == reported:
            return
        reported = epoch
        trial.report(row["val_auc"], epoch - 1)  # Optuna counts from 0
        if trial.should_prune():
            reason = f"after epoch {epoch}, with a validation AUC of {row['val_auc']:.4f}"
            trial.set_user_attr(REASON, reason)
            raise TrialPruned(reason)

    return report
