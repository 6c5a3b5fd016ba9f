"""What a run gets when its epochs are over: decisions from the split validation, which is read once for all of them."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from tqdm import tqdm

from schemas.labels import MULTI_HOT_UNCERTAIN
from training.assessment.plots import curves
from training.assessment.predictions import BATCH, predict_corrupted, probabilities_of
from training.config import TrainConfig
from training.decisions.calibration import fit_temperature
from training.decisions.operating_points import SHIFTED, OperatingPoint, operating_point
from training.fitting.run_log import kept_epoch
from training.metrics.several_classes import one_vs_rest
from training.metrics.weighted import Labels, Probabilities
from training.predicting.bias import fit_bias
from training.predicting.descriptors import Descriptors, descriptors_of, joined
from training.predicting.scope import described, fit_scope, sampled
from training.predicting.scope_file import write_scope
from training.reading.array_batches import steps, stored_batches
from training.reading.records import Split, naming_damaged_shards
from training.runs import run_folder
from training.runs.run_folder import RunConfig
from training.runs.weights_file import sha256_of
from training.task import BINARY


class _Seen(NamedTuple):
    """What the best model makes of the split validation. labels: int64 [examples] or [examples, classes]. probabilities:
    float64 [examples, outputs of the model]. deciding: labels and probabilities for the operating point, of the same images
    or of corrupted copies. descriptors: of images for the scope."""

    labels: Labels
    probabilities: Probabilities
    deciding: tuple[Labels, Probabilities]
    descriptors: Descriptors


def finish_run(config: TrainConfig, run: RunConfig, training: Split, validation: Split) -> RunConfig:
    """Chooses the best epoch, the threshold, the calibration and the scope of a run whose epochs are over, and writes them
    to its folder. Raises JobFailed for damaged shards."""
    rows = run_folder.read_history(config.output)
    # In 32 bits, as in evaluation and prediction.
    model = run_folder.best_model(config.output, run)
    point = operating_point(run.operating_point)
    seen = _seen(model, validation, point.kind == SHIFTED)
    if run.label_kind == MULTI_HOT_UNCERTAIN:
        counts = [
            (int(found[certain].sum()), int(certain.sum())) for found, certain in one_vs_rest(seen.labels, run.task)
        ]
        warn_of_no_negatives(config.data, validation, run.classes, *zip(*counts, strict=True))
    run = replace(
        run,
        best={**rows[kept_epoch(rows, config.recipe.keep)], **(run.best or {})},
        threshold=_threshold(run, point, seen),
        calibration={
            "temperature": fit_temperature(seen.labels, seen.probabilities, run.task),
            "source": f"has the lowest negative log-likelihood on split validation, {len(seen.labels)} examples",
        },
        weights_sha256=sha256_of(Path(config.output, run_folder.WEIGHTS)),
        adaptation=fit_bias(seen.labels, seen.probabilities, run.task),
    )
    write_scope(config.output, fit_scope(described(training), seen.descriptors))
    curves(rows).savefig(f"{config.output}/{run_folder.CURVES}")
    run_folder.write_config(config.output, run)
    return run


def warn_of_no_negatives(
    folder: str, split: Split, classes: Sequence[str], present: Sequence[int], certain: Sequence[int]
) -> None:
    """Warns of each finding that is in some examples of a split, and uncertain in all others. present: in how many it is.
    certain: in how many it is not uncertain."""
    for name, count, of in zip(classes, present, certain, strict=True):
        if 0 < count == of < split.examples:
            print(
                f"warning: split {split.name} of {folder} has no example that is certainly without {name}; its metrics are "
                "undefined",
                file=sys.stderr,
            )


def _seen(model: keras.Model, split: Split, corrupted: bool) -> _Seen:
    plain: list[tuple[Labels, Probabilities]] = []
    deciding: list[tuple[Labels, Probabilities]] = []
    descriptors: list[Descriptors] = []
    at = 0
    with naming_damaged_shards([split]):
        batches = stored_batches(split, BATCH)
        for images, labels in tqdm(batches, split.name, steps(split, BATCH), unit="batch", disable=None):
            plain.append((labels, probabilities_of(model, images)))
            if corrupted:
                deciding += [(labels, found) for found in predict_corrupted(model, images, at, split.examples)]
            descriptors.append(descriptors_of(sampled(images, at, split.examples)))
            at += len(labels)
    labels, probabilities = _joined(plain)
    return _Seen(labels, probabilities, _joined(deciding or plain), joined(descriptors))


def _joined(parts: list[tuple[Labels, Probabilities]]) -> tuple[Labels, Probabilities]:
    labels, probabilities = zip(*parts, strict=True)
    return np.concatenate(labels), np.concatenate(probabilities)


def _threshold(run: RunConfig, point: OperatingPoint, seen: _Seen) -> dict[str, Any]:
    """The entry of config.json."""
    labels, probabilities = seen.deciding
    found = [
        point.threshold(of_class[certain], probabilities[certain, output])
        for output, (of_class, certain) in enumerate(one_vs_rest(labels, run.task))
    ]
    value = {"value": found[0]} if run.task.kind == BINARY else {"values": found}
    return {**value, "kind": point.text, "source": point.source("validation", len(seen.labels))}
