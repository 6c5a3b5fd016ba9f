"""Evaluates a run on a split: metrics, figures and a report."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.labels import CLASS
from training import plots, run_folder
from training.config import EvaluateConfig
from training.metrics import evaluate_predictions
from training.predictions import Scored, scored_batches
from training.records import check_shards, open_dataset, open_split
from training.report import Mistake, report
from training.run_folder import RunConfig

SHOWN = 8  # mistakes of each kind in the report
FLATTERED = ("train", "validation")  # train determined the weights, validation the epoch and the threshold


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Writes the results and returns the content of metrics.json.

    Raises UsageError if the run cannot be read or does not fit the data set, JobFailed for damaged shards.
    """
    model, run = run_folder.load_run(config.run)
    assert run.threshold is not None  # load_run accepts only finished runs
    manifest = open_dataset(config.data)
    _check_kind(config, run, manifest)
    split = open_split(config.data, manifest, config.split)
    check_shards([split], config.verify_data)

    threshold = float(run.threshold["value"])
    all_labels, all_probabilities = [], []
    mistakes: dict[int, list[Mistake]] = {0: [], 1: []}
    for batch in scored_batches(model, split):
        all_labels.append(batch.labels)
        all_probabilities.append(batch.probabilities)
        keep_worst(mistakes, batch, threshold)
    labels, probabilities = np.concatenate(all_labels), np.concatenate(all_probabilities)

    figures = evaluate_predictions(labels, probabilities, threshold)
    if config.split in FLATTERED:
        figures["notes"].append(f"split {config.split} was used in training, so its figures flatter the model")
    data = {"name": manifest.name, "version": manifest.version, "revision": manifest.revision}
    made_of = {"split": config.split, "data": data, "classes": list(run.classes), "threshold": dict(run.threshold)}
    metrics = {**made_of, **figures}
    images = {
        "confusion": plots.figure_png(plots.confusion(figures["confusion_matrix"], run.classes, threshold)),
        "roc": plots.figure_png(plots.roc(labels, probabilities, threshold, figures["auroc"])),
    }
    curves = Path(config.run, run_folder.CURVES)
    if curves.is_file():
        images["curves"] = curves.read_bytes()
    _write(Path(config.output or config.run), metrics, images, report(run, metrics, images, mistakes))
    return metrics


def keep_worst(mistakes: dict[int, list[Mistake]], batch: Scored, threshold: float) -> None:
    """Adds the mistakes of `batch` to those by true label, and keeps the most confident SHOWN of each kind."""
    for index in np.flatnonzero((batch.probabilities >= threshold) != (batch.labels == 1)):
        label, probability = int(batch.labels[index]), float(batch.probabilities[index])
        mistakes[label].append(Mistake(batch.images[index], label, batch.ids[index], probability))
    for label, found in mistakes.items():
        found.sort(key=lambda mistake: mistake.probability, reverse=label == 0)
        del found[SHOWN:]


def _check_kind(config: EvaluateConfig, run: RunConfig, manifest: Manifest) -> None:
    if manifest.classes != run.classes or manifest.label_kind != CLASS:
        raise UsageError(
            f"{config.data} has {'labels' if manifest.label_kind != CLASS else 'classes'} {', '.join(manifest.classes)}; "
            f"run {config.run} classifies {', '.join(run.classes)}"
        )
    theirs, ours = asdict(manifest.image.pixels), asdict(run.image.pixels)
    if theirs != ours:
        differ = ", ".join(f"{name} {theirs[name]} ({ours[name]})" for name in ours if theirs[name] != ours[name])
        raise UsageError(
            f"{config.data} was converted with other settings than run {config.run} was trained on (in parentheses): "
            f"{differ}; convert it again with the run's settings"
        )


def _write(output: Path, metrics: dict[str, Any], images: dict[str, bytes], page: str) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / run_folder.METRICS).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        (output / run_folder.CONFUSION).write_bytes(images["confusion"])
        (output / run_folder.ROC).write_bytes(images["roc"])
        (output / run_folder.REPORT).write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {output}: {error.strerror}") from error
    intervals = metrics["intervals"]
    print(f"split {metrics['split']}: {metrics['examples']} examples")
    for name in ("accuracy", "sensitivity", "specificity", "auroc"):
        value = "undefined" if metrics[name] is None else f"{metrics[name]:.4f}"
        interval = "" if intervals[name] is None else f"  ({intervals[name][0]:.4f} to {intervals[name][1]:.4f})"
        print(f"  {name:<12} {value}{interval}")
    print(f"report: {output / run_folder.REPORT}")
