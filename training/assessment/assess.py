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
from training.assessment.figures import figures_of, subgroup_figures
from training.assessment.metrics import Labels, Probabilities
from training.assessment.predictions import Predictions, Scored, predictions_of, scored_batches
from training.assessment.report import Mistake, report
from training.assessment.several_classes import one_vs_rest
from training.assessment.subgroups import read_key, read_subgroups
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
    check_kind(config, run, manifest)
    split = open_split(config.data, manifest, config.split)
    check_shards([split], config.verify_data)
    if run.task.kind != BINARY and config.prevalence is not None:
        raise UsageError(f"--prevalence is for two classes; run {config.run} has others")
    key = read_key(config.id_key_file) if config.id_key_file else b""
    subgroups = read_subgroups(config.subgroups, manifest, key) if config.subgroups else None

    batches = []
    mistakes: Mistakes = []
    for batch in scored_batches(model, split):
        keep_worst(mistakes, batch, run)
        batches.append(batch.without_images())
    found = predictions_of(batches)
    figures = figures_of(found, run, config.prevalence)
    if subgroups is not None:
        figures["subgroups"] = subgroup_figures(found, run, subgroups)
    images = _pictures(found, run, figures)
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


def _pictures(found: Predictions, run: RunConfig, figures: dict[str, Any]) -> dict[str, bytes]:
    """The confusion matrix and the ROC curve, PNG."""
    labels, probabilities = found.labels, found.probabilities
    if run.task.kind == BINARY:
        (threshold,) = run.thresholds
        confusion = plots.confusion(figures["confusion_matrix"], run.classes, threshold)
        roc = plots.roc(labels, probabilities[:, 0], threshold, figures["auroc"])
        return {"confusion": plots.figure_png(confusion), "roc": plots.figure_png(roc)}
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
    return {"confusion": plots.figure_png(confusion), "roc": plots.figure_png(plots.rocs(columns))}


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


def check_kind(config: EvaluateConfig, run: RunConfig, manifest: Manifest) -> None:
    """Raises UsageError if the data set has other classes than the run, or was converted with other settings."""
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
