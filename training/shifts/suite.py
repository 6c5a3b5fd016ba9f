"""The suite: trains the models that it needs, and measures each of them on its proxies."""

import contextlib
import hashlib
import re
import time
from pathlib import Path
from typing import Any

import keras

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.scratch import scratch_folder
from training.config import ShiftConfig, TrainConfig
from training.fitting.fit import check_classes, train
from training.reading.records import check_shards, open_dataset, open_split
from training.runs.run_bucket import working_copy
from training.runs.run_folder import MODEL, RunConfig, load_run
from training.shifts.examples import SPLITS, write_without
from training.shifts.figures import Result, probabilities
from training.shifts.plan import Planned, plan
from training.shifts.table import check_output, content_of, text_of, write
from training.task import BINARY, task_of

RUNS = "runs"  # in the output folder

Trained = tuple[keras.Model, RunConfig]


def run_suite(config: ShiftConfig) -> dict[str, Any]:
    """Writes shift.json, shift.md and predictions.npz, prints the table, and returns the content of shift.json.

    Raises UsageError if the data set has not two classes, or anything that a flag names cannot be used, JobFailed for
    damaged shards, and what training raises.
    """
    manifest = open_dataset(config.data)
    _check_data(config.data, manifest)
    check_output(config)
    run = _loaded(config, manifest)[1] if config.run else None
    made = plan(config, manifest)
    for name, why in made.skipped.items():
        print(f"skipped: {name}: {why}")
    if not made.models:
        raise UsageError(f"there is nothing to measure on {config.data}; the lines above say why")
    if not config.run:
        print(f"models to train: {config.seeds * len(made.models)}", flush=True)
    results = []
    for seed in range(config.seeds):
        for planned in made.models:
            model, run = _loaded(config, manifest) if config.run else _trained(config, manifest, planned, seed)
            for proxy, examples in planned.tested(seed):
                found = probabilities(model, examples.images)
                results.append(Result(proxy, run.seed, run.thresholds[0], examples.labels, found))
    assert run is not None
    content = content_of(manifest, run, results, made.skipped)
    write(config.output, content, results)
    print(text_of(content))
    return content


def _check_data(folder: str, manifest: Manifest) -> None:
    task = task_of(manifest)
    if task.kind != BINARY:
        raise UsageError(f"{folder} has {len(task.classes)} classes or findings; the suite is for two classes")
    check_shards([open_split(folder, manifest, name) for name in SPLITS])
    check_classes(folder, manifest, task)


def _loaded(config: ShiftConfig, manifest: Manifest) -> Trained:
    """The model of --run."""
    with working_copy(config.run or "", MODEL) as copy:
        model, run = load_run(copy.folder, config.recipe)
    if run.classes != manifest.classes or run.image.pixels != manifest.image.pixels:
        raise UsageError(
            f"run {config.run} was trained on other classes or other pixel settings than those of {config.data}"
        )
    return model, run


def _trained(config: ShiftConfig, manifest: Manifest, planned: Planned, seed: int) -> Trained:
    """A model that is trained as training.train does it, on a copy of the data set without what is left out."""
    assert config.recipe is not None
    keras.utils.clear_session()  # else the graphs of all models stay in memory
    since = time.monotonic()
    output = Path(config.output, RUNS, f"{_file_name(planned.name)}-{seed}")
    with scratch_folder("shift-") as scratch:
        data = config.data
        if planned.left_out:
            data = f"{scratch}/data"
            write_without(config.data, manifest, planned.left_out, data)
        settings = TrainConfig(data, str(output), config.recipe, seed, resume=config.resume, overwrite=config.overwrite)
        output.mkdir(parents=True, exist_ok=True)
        with output.with_name(f"{output.name}.log").open("w") as log, contextlib.redirect_stdout(log):
            train(settings)
    without = f" without {planned.name} ({len(planned.left_out)} examples)" if planned.left_out else ""
    print(f"seed {seed}: trained{without} in {time.monotonic() - since:.0f} s", flush=True)
    return load_run(str(output), config.recipe)


def _file_name(name: str) -> str:
    """A file name for a proxy, and no other proxy's."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
