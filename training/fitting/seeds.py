"""Trains and evaluates a recipe with several seeds: how much of a figure is chance.

OUTPUT/seed-0, seed-1, ...   runs like any other, evaluated
OUTPUT/seeds.json            mean, standard deviation and range of the figures over the seeds; written last
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from schemas.dataset import Manifest
from schemas.errors import UsageError
from training.assessment.assess import evaluate
from training.comparing.spread import AT_HALF, spread_of
from training.config import EvaluateConfig, TrainConfig
from training.fitting.fit import train
from training.reading.records import open_dataset, open_split
from training.runs import run_folder

SUMMARY = "seeds.json"
TEST, VALIDATION = "test", "validation"


def train_seeds(config: TrainConfig) -> dict[str, Any]:
    """Trains and evaluates `config.seeds` runs, writes and returns the content of seeds.json. With `config.resume`, what
    is finished stays as it is.

    Raises UsageError, before anything is trained, if a seed has a run and no flag says what to do, or the split does not
    exist; otherwise what training and evaluation raise.
    """
    manifest = open_dataset(config.data)
    split = config.split or split_to_report(manifest)
    open_split(config.data, manifest, split)
    runs = _runs(config)
    summary = Path(config.output, SUMMARY)
    try:
        summary.unlink(missing_ok=True)  # it describes runs that are about to change
    except OSError as error:
        raise UsageError(f"cannot write to --output {config.output}: {error.strerror}") from error
    found = []
    for number, run in enumerate(runs, 1):
        print(f"seed {run.seed}, run {number} of {len(runs)}")
        found.append(_finished(run, manifest, split))
        keras.utils.clear_session()  # or the models before would stay in memory
    content = {
        "recipe": config.recipe.name,
        "epochs": config.recipe.epochs,
        "data": _identity(manifest),
        "split": split,
        "examples": found[0]["examples"],
        "patients": found[0]["patients"],
        "majority_class_accuracy": found[0].get("majority_class_accuracy"),
        "classes": list(manifest.classes),
        "seeds": [run.seed for run in runs],
        "runs": [Path(run.output).name for run in runs],
        **spread_of(found),
    }
    summary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(table(content))
    print(f"summary: {summary}")
    return content


def split_to_report(manifest: Manifest) -> str:
    """Test, or validation if the data set has no test images."""
    return TEST if TEST in manifest.splits and manifest.examples(TEST) else VALIDATION


def table(content: Mapping[str, Any]) -> str:
    """The content of seeds.json for a terminal."""
    lines = [
        f"{content['recipe']} on split {content['split']}, {len(content['seeds'])} seeds:",
        f"  {'':<22}{'mean':>8}{'sd':>8}{'min':>8}{'max':>8}",
    ]
    for key, where in (("figures", ""), (AT_HALF, " at 0.5")):
        for name, figure in content[key].items():
            cells = (figure[part] for part in ("mean", "sd", "min", "max"))
            shown = "".join(f"{'-' if cell is None else f'{cell:.4f}':>8}" for cell in cells)
            lines.append(f"  {name + where:<22}{shown}")
    return "\n".join(lines)


def _runs(config: TrainConfig) -> list[TrainConfig]:
    """The config of each run. Raises UsageError if one exists and no flag says what to do."""
    runs = [
        replace(config, seed=seed, output=str(Path(config.output, f"seed-{seed}")), seeds=None, split=None)
        for seed in range(config.seed, config.seed + (config.seeds or 0))
    ]
    taken = [run.output for run in runs if Path(run.output, run_folder.CONFIG).exists()]
    if taken and not config.resume and not config.overwrite:
        raise UsageError(f"{taken[0]} already holds a run; choose another --output, or give --resume or --overwrite")
    return runs


def _finished(run: TrainConfig, manifest: Manifest, split: str) -> dict[str, Any]:
    """Trains and evaluates what is missing of a run, and returns its metrics."""
    if not _is_trained(run, manifest):
        train(run)
    old = _metrics(run, manifest, split)
    return old or evaluate(EvaluateConfig(run.output, run.data, split, recipe=run.recipe))


def _is_trained(run: TrainConfig, manifest: Manifest) -> bool:
    """Whether there is nothing left to do. A run of other settings is left to training, which refuses or continues it."""
    if not run.resume or not Path(run.output, run_folder.CONFIG).exists():
        return False
    old = run_folder.read_config(run.output)
    return (
        old.threshold is not None
        and (old.recipe, old.seed, old.mixed_precision) == (run.recipe, run.seed, run.mixed_precision)
        and {name: old.data.get(name) for name in _identity(manifest)} == _identity(manifest)
        and (run.operating_point is None or run.operating_point.text == old.operating_point)
    )


def _metrics(run: TrainConfig, manifest: Manifest, split: str) -> dict[str, Any] | None:
    """The metrics that a finished evaluation of this run, on this split and data set, has left."""
    try:
        found = json.loads(Path(run.output, run_folder.METRICS).read_bytes())
        same = (found["split"], found["data"]) == (split, _identity(manifest))
        return found if same and Path(run.output, run_folder.REPORT).exists() else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _identity(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "version": manifest.version, "revision": manifest.revision}
