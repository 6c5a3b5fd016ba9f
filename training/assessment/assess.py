"""Evaluates a run on a split: metrics, figures and a report."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.labels import CLASS
from training import run_folder
from training.assessment import plots
from training.assessment.metrics import Labels, Probabilities, evaluate_predictions
from training.assessment.predictions import Scored, scored_batches
from training.assessment.report import Mistake, report
from training.assessment.several_classes import evaluate_classes, one_vs_rest
from training.config import EvaluateConfig
from training.reading.records import check_shards, open_dataset, open_split
from training.run_bucket import working_copy
from training.run_folder import RunConfig
from training.task import BINARY, MULTICLASS

SHOWN = 8  # mistakes of each kind in the report
FLATTERED = ("train", "validation")  # train determined the weights, validation the epoch and the threshold

Mistakes = list[list[Mistake]]  # by kind: see mistaken


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Writes the results and returns the content of metrics.json.

    Raises UsageError if the run cannot be read or does not fit the data set, JobFailed for damaged shards or if the run
    changes in its bucket meanwhile.
    """
    with working_copy(config.run, (*run_folder.MODEL, run_folder.CURVES)) as copy:
        metrics = _evaluate(replace(config, run=copy.folder))
        if not config.output:
            copy.publish(run_folder.RESULTS)
        page = Path(config.output, run_folder.REPORT) if config.output else copy.path(run_folder.REPORT)
    print(f"split {metrics['split']}: {metrics['examples']} examples")
    for name, value, interval in summary_of(metrics):
        shown = "undefined" if value is None else f"{value:.4f}"
        print(f"  {name:<12} {shown}" + ("" if interval is None else f"  ({interval[0]:.4f} to {interval[1]:.4f})"))
    print(f"report: {page}")
    return metrics


def _evaluate(config: EvaluateConfig) -> dict[str, Any]:
    model, run = run_folder.load_run(config.run, config.recipe)
    manifest = open_dataset(config.data)
    _check_kind(config, run, manifest)
    split = open_split(config.data, manifest, config.split)
    check_shards([split], config.verify_data)

    all_labels, all_probabilities = [], []
    mistakes: Mistakes = []
    for batch in scored_batches(model, split):
        all_labels.append(batch.labels)
        all_probabilities.append(batch.probabilities)
        keep_worst(mistakes, batch, run)
    labels, probabilities = np.concatenate(all_labels), np.concatenate(all_probabilities)

    figures, images = (
        _binary(labels, probabilities[:, 0], run) if run.task.kind == BINARY else _several(labels, probabilities, run)
    )
    if config.split in FLATTERED:
        figures["notes"].append(f"split {config.split} was used in training, so its figures flatter the model")
    data = {"name": manifest.name, "version": manifest.version, "revision": manifest.revision}
    made_of = {
        "split": config.split,
        "data": data,
        "classes": list(run.classes),
        "threshold": dict(run.threshold or {}),
    }
    metrics = {**made_of, **figures}
    curves = Path(config.run, run_folder.CURVES)
    if curves.is_file():
        images["curves"] = curves.read_bytes()
    _write(Path(config.output or config.run), metrics, images, report(run, metrics, images, mistakes))
    return metrics


def _binary(labels: Labels, probabilities: Probabilities, run: RunConfig) -> tuple[dict[str, Any], dict[str, bytes]]:
    (threshold,) = run.thresholds
    figures = evaluate_predictions(labels, probabilities, threshold)
    return figures, {
        "confusion": plots.figure_png(plots.confusion(figures["confusion_matrix"], run.classes, threshold)),
        "roc": plots.figure_png(plots.roc(labels, probabilities, threshold, figures["auroc"])),
    }


def _several(labels: Labels, probabilities: Probabilities, run: RunConfig) -> tuple[dict[str, Any], dict[str, bytes]]:
    figures = evaluate_classes(labels, probabilities, run.thresholds, run.task)
    if run.task.kind == MULTICLASS:
        confusion = plots.confusion(figures["confusion_matrix"], run.classes)
    else:
        confusion = plots.confusions(figures["per_class"])
    columns = {
        name: (of_class[certain], probabilities[certain, index])
        for index, (name, (of_class, certain)) in enumerate(
            zip(run.classes, one_vs_rest(labels, run.task), strict=True)
        )
    }
    return figures, {"confusion": plots.figure_png(confusion), "roc": plots.figure_png(plots.rocs(columns))}


def keep_worst(mistakes: Mistakes, batch: Scored, run: RunConfig) -> None:
    """Adds the mistakes of `batch` to those of their kind, and keeps the most confident SHOWN of each kind."""
    for kind, (rows, confidence, output) in enumerate(mistaken(batch.labels, batch.probabilities, run)):
        if kind == len(mistakes):
            mistakes.append([])
        for row in np.flatnonzero(rows):
            probability = float(batch.probabilities[row, output[row]])
            predicted = run.classes[output[row]] if run.task.kind == MULTICLASS else ""
            mistakes[kind].append(
                Mistake(batch.images[row], batch.ids[row], probability, float(confidence[row]), predicted)
            )
        mistakes[kind].sort(key=lambda mistake: mistake.confidence, reverse=True)
        del mistakes[kind][SHOWN:]


def mistaken(
    labels: Labels, probabilities: Probabilities, run: RunConfig
) -> Iterator[tuple[npt.NDArray[np.bool_], Probabilities, Labels]]:
    """For each kind of mistake, in the order of report.titles_of: which examples it is, how confident the model is of
    it, and the output whose probability tells it; all [examples].

    The kinds are, for each class, the images of it that are predicted as another; or, for each output that has a threshold,
    false positives and false negatives.
    """
    if run.task.kind == MULTICLASS:
        predicted = probabilities.argmax(1)
        for index in range(len(run.classes)):
            yield (labels == index) & (predicted != index), probabilities.max(1), predicted
        return
    for index, (of_class, certain) in enumerate(one_vs_rest(labels, run.task)):
        output = np.full(len(labels), index)
        called = probabilities[:, index] >= run.thresholds[index]
        yield certain & called & (of_class == 0), probabilities[:, index], output
        yield certain & ~called & (of_class == 1), 1 - probabilities[:, index], output


def _check_kind(config: EvaluateConfig, run: RunConfig, manifest: Manifest) -> None:
    if manifest.classes != run.classes or manifest.label_kind != run.label_kind:
        raise UsageError(
            f"{config.data} has {'labels' if manifest.label_kind != CLASS else 'classes'} {', '.join(manifest.classes)}; "
            f"run {config.run} {'finds' if run.label_kind != CLASS else 'classifies'} {', '.join(run.classes)}"
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


def summary_of(metrics: dict[str, Any]) -> Iterator[tuple[str, float | None, tuple[float, float] | None]]:
    """The figures that the command prints: name, value, interval."""
    if "per_class" not in metrics:
        for name in ("accuracy", "sensitivity", "specificity", "auroc"):
            yield name, metrics[name], metrics["intervals"][name]
        return
    if "accuracy" in metrics:
        yield "accuracy", metrics["accuracy"], metrics["accuracy_interval"]
    for kind in ("macro", "micro"):
        average = metrics[kind]
        for area in ("auroc", "auprc"):
            yield f"{kind} {area}", *((average[area], average["intervals"][area]) if average else (None, None))
