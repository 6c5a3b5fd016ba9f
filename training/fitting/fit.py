"""Trains a model, from the manifest to a finished run folder."""

import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from schemas.dataset import Manifest
from schemas.errors import JobFailed, UsageError
from schemas.labels import CLASS
from training import run_folder
from training.assessment.metrics import youden_threshold
from training.assessment.plots import curves
from training.assessment.predictions import predict_split
from training.assessment.several_classes import has_both, one_vs_rest
from training.config import TrainConfig
from training.models.networks import FLOAT16, build_model, load_pretrained
from training.models.objective import loss_of, metrics_of
from training.models.recipes import NO_WEIGHTS, Recipe
from training.reading.input_pipeline import Order, batches, steps
from training.reading.records import (
    Split,
    all_splits,
    check_shards,
    naming_damaged_shards,
    open_dataset,
    open_split,
    unlisted_shards,
)
from training.run_folder import RunConfig
from training.task import BINARY, MULTICLASS, MULTILABEL, Task, task_of

MONITOR = "val_auc"


def train(config: TrainConfig) -> RunConfig:
    """Trains, chooses the best epoch and the threshold on the validation split, and returns the finished run's config.

    Raises UsageError, before anything is written, if the data set or the output folder is unsuitable, and JobFailed for
    damaged shards or a loss that is not a number.
    """
    manifest = open_dataset(config.data)
    splits = [open_split(config.data, manifest, name) for name in ("train", "validation")]
    task = task_of(manifest)
    check_classes(config.data, manifest, task)
    check_shards(all_splits(config.data, manifest), config.verify_data)
    for name in unlisted_shards(config.data, manifest):
        print(f"warning: {config.data}: {name} is not in the manifest and is not read", file=sys.stderr)
    keras.utils.set_random_seed(config.seed)
    dtype = FLOAT16 if config.mixed_precision else "float32"
    model = build_model(config.recipe, manifest.shape, task, dtype)
    if config.recipe.weights != NO_WEIGHTS:
        load_pretrained(model, config.recipe.weights)
    compile_model(model, config.recipe, task, config.mixed_precision, manifest)
    run = _planned(config, manifest)
    run_folder.prepare_run(config.output, run, config.resume, config.overwrite)
    done = run_folder.read_history(config.output)
    if not (config.early_stopping and epochs_since_best(done) >= config.early_stopping):
        _fit(model, config, manifest, splits)
    run = _finish(config, run, splits[1])
    best = run.best or {}
    chosen = f"; threshold {run.thresholds[0]:.4f}" if task.kind == BINARY else ""
    print(
        f"best epoch {best['epoch']:.0f} of {config.recipe.epochs}: validation AUC {best['val_auc']:.4f}, "
        f"accuracy {best['val_accuracy']:.4f}{'' if task.kind == MULTICLASS else ' at 0.5'}{chosen}"
    )
    again = f" --recipe {config.recipe.source}" if config.recipe.sha256 else ""
    print(f"run: {config.output}; next: python -m training.evaluate --run {config.output} --data {config.data}{again}")
    return run


def check_classes(folder: str, manifest: Manifest, task: Task) -> None:
    """Warns of each class of which a split has only positive or only negative examples. Raises UsageError if one of two
    classes is missing, or nothing can be learned of any class."""
    for split in ("train", "validation"):
        examples = manifest.examples(split)
        counts = dict(zip(manifest.classes, manifest.label_counts(split), strict=True))
        missing = [name for name, count in counts.items() if not count]
        if missing and task.kind == BINARY:
            raise UsageError(f"split {split} of {folder} has no example of {missing[0]}; convert more images")
        undefined = [name for name, count in counts.items() if count in (0, examples)]
        if len(undefined) == len(counts):
            raise UsageError(f"split {split} of {folder} has examples of one kind only; convert more images")
        for name in undefined:
            which = "no example" if name in missing else "only examples"
            print(
                f"warning: split {split} of {folder} has {which} of {name}; its metrics are undefined", file=sys.stderr
            )


def compile_model(
    model: keras.Model, recipe: Recipe, task: Task, mixed_precision: bool = False, manifest: Manifest | None = None
) -> None:
    """Compiles `model` with the recipe's Adam and the loss and the metrics of the task. `manifest`: of the data set whose
    findings a balanced loss counts."""
    optimizer = keras.optimizers.Adam(recipe.learning_rate)
    if mixed_precision:  # gradients below 6e-8 would be zero in 16 bits
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    weights = None
    if recipe.balanced and manifest and task.kind == MULTILABEL:
        examples = manifest.examples("train")
        weights = [finding_weights(count, examples) for count in manifest.label_counts("train")]
    model.compile(optimizer, loss=loss_of(task, weights), metrics=metrics_of(task))


def class_weights(counts: tuple[int, ...]) -> list[float]:
    """Weights with mean 1 over the examples that make every class count the same; 0 for a class without examples."""
    return [sum(counts) / (sum(map(bool, counts)) * count) if count else 0.0 for count in counts]


def finding_weights(present: int, examples: int) -> tuple[float, float]:
    """Weights with mean 1 over the examples that make the images with and without a finding count the same."""
    present_weight, absent_weight = class_weights((present, examples - present))
    return present_weight, absent_weight


def best_epoch(rows: list[dict[str, float]]) -> int:
    """The index of the epoch with the highest validation AUC. Ties go to the lowest validation loss, then to the first."""
    return max(range(len(rows)), key=lambda index: (rows[index][MONITOR], -rows[index]["val_loss"], -index))


def epochs_since_best(rows: list[dict[str, float]]) -> int:
    """The number of epochs after the best one."""
    return len(rows) - 1 - best_epoch(rows) if rows else 0


class RunLog(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """Keeps history.csv, the TensorBoard logs and the best weights of a run, and stops it early.

    One callback does it all, because everything depends on the epochs so far, which a resumed run reads from history.csv.
    Keras' CSVLogger, ModelCheckpoint and EarlyStopping would start over, and repeat the row of an interrupted epoch.
    """

    def __init__(self, folder: str, first_epoch: tf.Variable, patience: int) -> None:
        super().__init__()
        self._folder, self._first_epoch, self._patience = folder, first_epoch, patience
        self._rows: list[dict[str, float]] | None = None
        self._writer = tf.summary.create_file_writer(f"{folder}/{run_folder.LOGS}")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if self._rows is None:  # BackupAndRestore sets the first epoch only now
            self._rows = run_folder.read_history(self._folder)[:epoch]
            if len(self._rows) < epoch:
                raise JobFailed(
                    f"{run_folder.HISTORY} of run {self._folder} is missing epochs; train again with --overwrite"
                )
            self._first_epoch.assign(epoch)
        # Dropout and augmentation draw from counters that no weights file holds: make them a function of the epoch too.
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                seed, _ = keras.ops.convert_to_numpy(variable)
                variable.assign([seed, (epoch << 20) % 2**32])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        if not math.isfinite(row["loss"]):
            raise JobFailed(f"the loss is {row['loss']} in epoch {epoch + 1}; give a lower --learning_rate")
        assert self._rows is not None
        self._rows.append(row)
        since_best = epochs_since_best(self._rows)
        if since_best == 0:
            self.model.save_weights(f"{self._folder}/{run_folder.WEIGHTS}", overwrite=True)
        run_folder.write_history(self._folder, self._rows)
        self._log(row)
        if self._patience and since_best >= self._patience:
            self.model.stop_training = True

    def _log(self, row: Mapping[str, float]) -> None:
        # tf.summary.scalar needs the tensorboard package, which only the viewer should.
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin, data_class=1)
        with self._writer.as_default(step=int(row["epoch"])):
            for name, value in row.items():
                tf.summary.write(name, np.float32(value), metadata=metadata)
        self._writer.flush()


def _planned(config: TrainConfig, manifest: Manifest) -> RunConfig:
    return RunConfig(
        recipe=config.recipe,
        seed=config.seed,
        mixed_precision=config.mixed_precision,
        classes=manifest.classes,
        label_kind=manifest.label_kind,
        image=manifest.image,
        data={
            "name": manifest.name,
            "version": manifest.version,
            "revision": manifest.revision,
            "examples": {split: manifest.examples(split) for split in manifest.splits},
        },
        versions={
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    )


def _fit(model: keras.Model, config: TrainConfig, manifest: Manifest, splits: list[Split]) -> None:
    training, validation = splits
    size, cache = config.recipe.batch_size, config.cache_mb << 20
    with tf.device("CPU"):  # where the input pipeline reads it
        first_epoch = tf.Variable(0, dtype=tf.int64)
    balanced = config.recipe.balanced and manifest.label_kind == CLASS  # else the loss does it
    weights = class_weights(manifest.label_counts("train")) if balanced else None
    log = RunLog(config.output, first_epoch, config.early_stopping)
    # The log comes first: an epoch whose backup is missing is trained and logged again, one without a row is lost.
    backup = keras.callbacks.BackupAndRestore(
        f"{config.output}/{run_folder.BACKUP}", double_checkpoint=True, delete_checkpoint=False
    )
    with naming_damaged_shards(splits):
        model.fit(
            batches(training, size, Order(config.seed, first_epoch), weights, cache),
            steps_per_epoch=steps(training, size),
            validation_data=batches(validation, size, cache_bytes=cache),
            validation_steps=steps(validation, size),
            epochs=config.recipe.epochs,
            callbacks=[log, backup],
            shuffle=False,  # the data set has done it
            verbose=1 if sys.stdout.isatty() else 2,
        )


def _finish(config: TrainConfig, run: RunConfig, validation: Split) -> RunConfig:
    rows = run_folder.read_history(config.output)
    # In 32 bits, as in evaluation and prediction.
    labels, probabilities = predict_split(run_folder.best_model(config.output, run), validation)
    found = [
        youden_threshold(of_class[certain], probabilities[certain, output]) if has_both(of_class[certain]) else None
        for output, (of_class, certain) in enumerate(one_vs_rest(labels, run.task))
    ]
    threshold: dict[str, Any] = {"value": found[0]} if run.task.kind == BINARY else {"values": found}
    threshold["source"] = (
        f"maximises Youden's J (sensitivity + specificity - 1) on split validation, {len(labels)} examples"
    )
    run = replace(run, best=rows[best_epoch(rows)], threshold=threshold)
    curves(rows).savefig(f"{config.output}/{run_folder.CURVES}")
    run_folder.write_config(config.output, run)
    return run
