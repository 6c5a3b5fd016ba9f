"""Evaluates a run on a split: metrics, figures and a report."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from schemas.dataset import Manifest
from schemas.errors import UsageError
from schemas.labels import CLASS
from training.assessment.figures import figures_of, subgroup_figures
from training.assessment.mistakes import Mistakes, keep_worst, shown
from training.assessment.page.content import FLATTERED, Content
from training.assessment.page.model_card import model_card
from training.assessment.page.report import report
from training.assessment.pictures import pictures, training_curves
from training.assessment.predictions import predictions_of, scored_batches
from training.assessment.subgroups import read_key, read_subgroups
from training.config import EvaluateConfig
from training.reading.records import check_shards, leakage_of, open_dataset, open_split
from training.runs import run_folder
from training.runs.run_bucket import working_copy
from training.runs.run_folder import RunConfig
from training.task import BINARY


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Writes the results and returns the content of metrics.json.

    Raises UsageError if the run cannot be read or does not fit the data set, JobFailed for damaged shards or if the run
    changes in its bucket meanwhile.
    """
    with working_copy(config.run, (*run_folder.MODEL, run_folder.HISTORY)) as copy:
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
    if config.split in FLATTERED and manifest.name == run.data["name"]:
        figures["notes"].append(f"split {config.split} was used in training, so its figures flatter the model")
    metrics = {
        "split": config.split,
        "data": {"name": manifest.name, "version": manifest.version, "revision": manifest.revision},
        "classes": list(run.classes),
        "threshold": dict(run.threshold or {}),
        **figures,
    }
    images, charts = pictures(found.labels, found.probabilities, run, metrics)
    charts |= training_curves(run_folder.read_history(config.run))
    digests = {name: hashlib.sha256(Path(config.run, name).read_bytes()).hexdigest() for name in run_folder.MODEL}
    content = Content(run, metrics, manifest, leakage_of(config.data), charts, shown(model, mistakes), digests)
    _write(Path(config.output or config.run), content, images)
    return metrics


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


def _write(output: Path, content: Content, images: Mapping[str, bytes]) -> None:
    texts = {
        run_folder.METRICS: json.dumps(content.metrics, indent=1) + "\n",
        run_folder.REPORT: report(content),
        run_folder.MODEL_CARD: model_card(content),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, data in {**images, **{name: text.encode() for name, text in texts.items()}}.items():
            (output / name).write_bytes(data)
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
