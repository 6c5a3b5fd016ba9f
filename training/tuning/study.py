"""The search: a study of Optuna (Akiba et al. 2019, KDD) in the output folder, which several processes share.

Trials are suggested by a tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS) and pruned by the median of the
trials before (MedianPruner). trials.journal holds the study. A trial that was cut off is not continued, and does not count.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from schemas.dataset import Manifest
from schemas.errors import JobFailed, UsageError
from training.config import TuneConfig
from training.fitting.fit import check_classes
from training.reading.records import check_shards, open_dataset, open_split
from training.shifts.examples import SPLITS, VALIDATION, Labelled, entries, select
from training.task import BINARY, task_of
from training.tuning.processes import run_in_processes
from training.tuning.recipe_file import recipe_text
from training.tuning.space import changes, searched
from training.tuning.trial import CORRUPTED_AUROC, REASON, VALIDATION_AUROC, VALUES, score_of

JOURNAL, RECIPE, TABLE = "trials.journal", "recipe.py", "trials.csv"
_NAME = "radrecords"
_WHOLE_TRIALS, _WHOLE_EPOCHS = 5, 1  # none of the first trials is pruned, and none in its first epoch
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def tune(config: TuneConfig) -> Path:
    """Runs the trials that are left of config.trials, writes trials.csv and recipe.py, and returns the path of the latter.

    Raises UsageError if the data set has not two classes, or the output folder holds another search or needs --resume;
    JobFailed for damaged shards, or if no trial was finished; and what training raises.
    """
    manifest = open_dataset(config.data)
    task = task_of(manifest)
    if task.kind != BINARY:
        raise UsageError(f"{config.data} has {len(task.classes)} classes or findings; the search is for two classes")
    check_shards([open_split(config.data, manifest, name) for name in SPLITS])
    check_classes(config.data, manifest, task)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it shows a traceback of an interrupt
    study = _opened(config, manifest)
    left = config.trials - len(study.get_trials(states=_FINISHED))
    if left > 0 and config.jobs > 1:
        shares = [left // config.jobs + (job < left % config.jobs) for job in range(config.jobs)]
        run_in_processes(config, [share for share in shares if share])
    elif left > 0:
        run_trials(config, left)
    return _finished(config, study)


def run_trials(config: TuneConfig, trials: int, job: int = 0, parent: int | None = None) -> None:
    """Runs some trials of the study in the output folder; `job` numbers the processes that do so at a time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it shows a traceback of an interrupt
    manifest = open_dataset(config.data)
    ids = {entry.id for entry in entries(config.data, manifest) if entry.split == VALIDATION}
    validation: Labelled = select(config.data, manifest, ids)
    study = _study(config, job)
    study.optimize(
        lambda trial: score_of(trial, config, validation, parent),
        n_trials=trials,
        callbacks=[lambda _study, trial: print(_line(trial), flush=True)],
    )


def _study(config: TuneConfig, job: int = 0) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(Path(config.output, JOURNAL))))
    study = optuna.create_study(
        storage=storage,
        study_name=_NAME,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_WHOLE_TRIALS, _WHOLE_EPOCHS),
    )
    # Not the numbers of the jobs beside it, nor those that a search began with when it is resumed.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + 1000 * len(study.trials) + job)
    return study


def _opened(config: TuneConfig, manifest: Manifest) -> optuna.Study:
    """The study of the output folder, begun or resumed."""
    folder = Path(config.output)
    begun = (folder / JOURNAL).exists()
    if begun and not config.resume:
        raise UsageError(f"--output {config.output} already holds a search; choose another, or give --resume")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        study = _study(config)
    except OSError as error:
        raise UsageError(f"cannot write to --output {config.output}: {error.strerror}") from error
    about: dict[str, Any] = {
        "data": [manifest.name, manifest.version, manifest.revision],
        "recipe": config.recipe.to_json() | {"source": ""},
        "seed": config.seed,
    }
    for name, value in about.items():
        if study.user_attrs.setdefault(name, value) != value:
            raise UsageError(f"--resume: the search in {config.output} has a different {name} than this command")
        study.set_user_attr(name, value)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    own = searched(config.recipe)
    counts = (TrialState.COMPLETE, TrialState.WAITING)
    if not any(_of_recipe(trial, own) for trial in study.get_trials(states=counts)):
        study.enqueue_trial(own)  # so that the result is no worse than the recipe
    return study


def _of_recipe(trial: FrozenTrial, own: dict[str, Any]) -> bool:
    return bool(trial.system_attrs.get("fixed_params", trial.params) == own)


def _line(trial: FrozenTrial) -> str:
    values = ", ".join(f"{name} {value}" for name, value in trial.user_attrs[VALUES].items())
    if trial.state == TrialState.PRUNED:
        return f"trial {trial.number}: pruned: {trial.user_attrs[REASON]}; {values}"
    clean, corrupted = trial.user_attrs[VALIDATION_AUROC], trial.user_attrs[CORRUPTED_AUROC]
    return f"trial {trial.number}: score {trial.value:.4f} (AUROC {clean:.4f}, corrupted {corrupted:.4f}); {values}"


def _finished(config: TuneConfig, study: optuna.Study) -> Path:
    trials = study.get_trials(states=_FINISHED)
    whole = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    _write_table(Path(config.output, TABLE), trials)
    if not whole:
        raise JobFailed(f"no trial was finished; the last one was pruned: {trials[-1].user_attrs[REASON]}")
    best = max(whole, key=lambda trial: (trial.value, -trial.number))
    about = f"The best of {len(trials)} trials of recipe {config.recipe.name}, with a score of {best.value:.4f}."
    path = Path(config.output, RECIPE)
    path.write_text(
        recipe_text(config.recipe, changes(config.recipe, best.user_attrs[VALUES]), about), encoding="utf-8"
    )
    print(f"best: {_line(best)}")
    print(f"recipe: {path}; next: python -m training.train --data {config.data} --recipe {path} --output RUN")
    return path


def _write_table(path: Path, trials: Sequence[FrozenTrial]) -> None:
    names = list(trials[0].user_attrs[VALUES])
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["trial", "state", "score", VALIDATION_AUROC, CORRUPTED_AUROC, *names])
        for trial in trials:
            parts = [trial.user_attrs.get(name) for name in (VALIDATION_AUROC, CORRUPTED_AUROC)]
            score = trial.value if trial.state == TrialState.COMPLETE else None
            values = [trial.user_attrs[VALUES][name] for name in names]
            table.writerow([trial.number, trial.state.name.lower(), score, *parts, *values])
    os.replace(part, path)
