"""Evaluations for the report, from made-up predictions: of two classes, of ten with long names, and of fourteen findings."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.dataset import Manifest, Shard
from schemas.labels import CLASS, MULTI_HOT
from schemas.pixels.settings import ImageSettings
from training.assessment.figures import figures_of, subgroup_figures
from training.assessment.page.content import Content, Shown
from training.assessment.page.statements import titles_of
from training.assessment.pictures import pictures, training_curves
from training.assessment.plots import data_uri, image_png
from training.assessment.predictions import Predictions
from training.metrics.two_classes import Labels
from training.models.recipes import Recipe
from training.runs.run_folder import RunConfig
from training.task import BINARY, MULTICLASS, MULTILABEL

TEN = tuple(f"Class {number} <with> a rather long name & more" for number in range(10))
NIH = tuple(
    "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema Emphysema "
    "Fibrosis Pleural_Thickening Hernia".split()
)
KINDS = {BINARY: ("NORMAL", "PNEUMONIA"), MULTICLASS: TEN, MULTILABEL: NIH}
EXAMPLES = {"train": 4708, "validation": 524, "test": 240}
ROWS = [
    {"epoch": epoch, "loss": 0.6 / epoch, "accuracy": 0.9, "auc": 0.9, "val_loss": 0.7 / epoch, "val_accuracy": 0.88}
    | {"val_auc": 0.97 - 0.002 * (epoch - 6) ** 2}
    for epoch in range(1, 11)
]
LEAKAGE = {
    "groups_in_several_splits": {"allowed": False, "total": 0, "groups": []},
    "identical_images_in_several_splits": 0,
    "identical_images_with_several_labels": 0,
    "near_duplicates_across_splits": {"total": 3},
}


@cache
def made_up(kind: str) -> Content:
    """An evaluation of a task of this kind."""
    classes = KINDS[kind]
    run = _run(kind, classes)
    predictions = _predictions(kind, len(classes))
    figures = figures_of(predictions, run, 0.1 if kind == BINARY else None)
    if kind != MULTILABEL:  # as most evaluations are
        figures["subgroups"] = subgroup_figures(predictions, run, {"kind": _kinds(predictions)})
    data = {"name": "cxr", "version": "1.0.0", "revision": 1}
    metrics = {
        "split": "test",
        "data": data,
        "classes": list(classes),
        "threshold": dict(run.threshold or {}),
        **figures,
    }
    _, charts = pictures(predictions.labels, predictions.probabilities, run, metrics)
    return Content(
        run,
        metrics,
        _manifest(kind, classes, predictions.labels),
        LEAKAGE,
        {**charts, **training_curves(ROWS)},
        [[_shown(number, kind) for number in range(4)] for _ in titles_of(run.task)],
        {"config.json": "0123456789abcdef" * 4, "model.weights.h5": "fedcba9876543210" * 4},
    )


def _predictions(kind: str, classes: int) -> Predictions:
    """Of patients with two images each; right more often than not."""
    rng, count = np.random.default_rng(0), EXAMPLES["test"]
    if kind == MULTICLASS:
        labels = rng.integers(0, classes, count)
        powers = np.exp(rng.normal(size=(count, classes)) + 2.5 * np.eye(classes)[labels])
        probabilities = powers / powers.sum(1, keepdims=True)
    else:
        columns = 1 if kind == BINARY else classes
        truth = (rng.random((count, columns)) < (0.62 if kind == BINARY else 0.15)).astype(np.int64)
        probabilities = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) * 1.6 + 4 * truth - 2)))
        labels = truth[:, 0] if kind == BINARY else truth
    groups = np.array([f"{n // 2:032x}" for n in range(count)], "S32")
    return Predictions(labels, probabilities, groups, [f"{n:032x}" for n in range(count)])


def _run(kind: str, classes: tuple[str, ...]) -> RunConfig:
    source = "maximises sensitivity + specificity on the validation split"
    value: Mapping[str, Any] = {"value": 0.43} if kind == BINARY else {"values": [0.3] * len(classes)}
    return RunConfig(
        recipe=Recipe(name="model3", model="model3", epochs=10),
        seed=0,
        mixed_precision=False,
        classes=classes,
        image=ImageSettings(),
        data={"name": "cxr", "version": "1.0.0", "revision": 1, "examples": EXAMPLES},
        versions={"python": "3.11.9", "tensorflow": "2.20.0", "keras": "3.11.0"},
        best={"epoch": 6, "val_auc": 0.97, "val_accuracy": 0.91},
        threshold={**value, "kind": "youden", "source": source},
        calibration={"temperature": 1.31, "source": "split validation"},
        label_kind=MULTI_HOT if kind == MULTILABEL else CLASS,
        compute={"backend": "tensorflow", "devices": 1, "device": "CPU", "read_ahead_mb": 64, "dtype": "float32"},
    )


def _manifest(kind: str, classes: tuple[str, ...], labels: Labels) -> Manifest:
    counts = labels.sum(0) if kind == MULTILABEL else np.bincount(labels, minlength=len(classes))
    splits = {}
    for split, examples in EXAMPLES.items():
        of_class = [examples * int(count) // len(labels) for count in counts]
        of_class[0] += examples - sum(of_class) if kind != MULTILABEL else 0
        splits[split] = (Shard(f"cxr-{split}.tfrecord-00000-of-00001", 1, "", examples, tuple(of_class)),)
    inputs = {"listed": 5496, "written": 5472, "quarantined": 2, "duplicates": 22, "skipped": 0}
    return Manifest("cxr", "1.0.0", 1, classes, ImageSettings(), inputs, {}, {}, {}, splits, {"preset": "kermany"})


def _kinds(predictions: Predictions) -> dict[str, str]:
    """A subgroup of ill images only, and one of both."""
    ill = predictions.labels.reshape(len(predictions.ids), -1)[:, 0] > 0
    return {id: "virus" if n % 3 == 0 and ill[n] else "others" for n, id in enumerate(predictions.ids)}


def _shown(number: int, kind: str) -> Shown:
    picture = data_uri(image_png(_pixels(number)))
    return Shown(
        picture, f"{number:032x}", 0.981, TEN[1] if kind == MULTICLASS else "", picture if number < 2 else "", 0.4
    )


def _pixels(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (64, 64, 1), dtype=np.uint8)
