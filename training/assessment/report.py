"""report.html: one page with everything about an evaluation. It needs no other file and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from training.assessment.plots import data_uri, image_png
from training.run_folder import RunConfig
from training.task import BINARY, MULTICLASS, MULTILABEL, Task

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
body { max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: 0 } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse }
th, td { text-align: left; padding: .25em 1.2em .25em 0; border-bottom: 1px solid #eee }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% } .row { display: flex; flex-wrap: wrap; gap: 1em }
figure { margin: 0; width: 128px; font-size: .8em }
figure img { width: 128px; height: 128px; image-rendering: pixelated; background: #000 }
figcaption { overflow-wrap: anywhere; color: #555 } .note { color: #555 }
table.wide { font-size: .85em } table.wide th, table.wide td { padding-right: .6em }
"""
FIGURES = (
    ("accuracy", "Accuracy"),
    ("sensitivity", "Sensitivity"),
    ("specificity", "Specificity"),
    ("auroc", "AUROC"),
    ("auprc", "AUPRC"),
)
_MORE = (  # of two classes
    ("balanced_accuracy", "Balanced accuracy"),
    ("ppv", "PPV"),
    ("npv", "NPV"),
    ("f1", "F1"),
    ("mcc", "MCC"),
    ("brier", "Brier score"),
    ("ece", "ECE"),
)
_AT_HALF = {BINARY: " at 0.5", MULTICLASS: "", MULTILABEL: " at 0.5"}  # where the accuracy while training is measured


@dataclass(frozen=True)
class Mistake:
    """One wrongly classified example. image: uint8 [height, width, channels]; probability: of the second class, of the
    finding, or of the class `predicted`; confidence: from 0 to 1."""

    image: npt.NDArray[np.uint8]
    id: str
    probability: float
    confidence: float
    predicted: str = ""


def report(
    config: RunConfig,
    metrics: Mapping[str, Any],
    images: Mapping[str, bytes],
    mistakes: Sequence[Sequence[Mistake]],
) -> str:
    """The page. `metrics` is the content of metrics.json; `images` are PNG files named curves, confusion and roc (curves may
    be missing); `mistakes` holds the most confident ones of each kind, in the order of titles_of."""
    data, best = metrics["data"], config.best or {}
    title = f"{config.recipe.name} on {data['name']} {data['version']}, split {metrics['split']}"
    binary = config.task.kind == BINARY
    parts = (
        f"<h1>{escape(title)}</h1>",
        f"<p class=note>{metrics['examples']:,} examples. Not a medical device: for research only.</p>",
        "<h2>Figures</h2>",
        _figures(metrics) if binary else _averages(metrics) + _class_table(metrics),
        *(f"<p class=note>Note: {escape(note)}.</p>" for note in metrics["notes"]),
        f"<p class=note>{escape(_explained(config, metrics))}</p>",
        "<h2>Confusion matrix and ROC</h2>",
        f"<div class=row>{_picture(images['confusion'], 'matrix')}{_picture(images['roc'], 'ROC curve')}</div>",
        "<h2>Training</h2>",
        _curves(images),
        f"<p class=note>The weights are from epoch {best['epoch']:.0f}, the best by AUC on the validation split: "
        f"AUC {best['val_auc']:.4f}, accuracy {best['val_accuracy']:.4f}{_AT_HALF[config.task.kind]}.</p>",
        *(
            f"<h2>{escape(title)}</h2>{_mistakes(found)}"
            for title, found in zip(titles_of(config.task), mistakes, strict=True)
        ),
        "<h2>How it was made</h2>",
        _settings(config),
    )
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def titles_of(task: Task) -> list[str]:
    """The kinds of mistakes: see assess.mistaken."""
    if task.kind == BINARY:
        negative, positive = task.classes
        return [
            f"False positives: {negative} predicted as {positive}",
            f"False negatives: {positive} predicted as {negative}",
        ]
    if task.kind == MULTICLASS:
        return [f"{name} predicted as another class" for name in task.classes]
    return [f"{name}: {kind}" for name in task.classes for kind in ("false positives", "false negatives")]


def _explained(config: RunConfig, metrics: Mapping[str, Any]) -> str:
    source = metrics["threshold"]["source"]
    independent = f"The 95% intervals take the images of each of the {metrics['patients']:,} patients together."
    if config.task.kind == BINARY:
        return (
            f"Positive is {config.classes[1]}. Always predicting the more frequent class has an accuracy of "
            f"{metrics['majority_class_accuracy']:.4f}. The threshold {source}. {independent}"
        )
    each = f"The table compares each class with all others, at a threshold that {source}."
    if config.task.kind == MULTICLASS:
        each = (
            "The predicted class is the most probable one. Always predicting the most frequent class has an accuracy of "
            f"{metrics['majority_class_accuracy']:.4f}. {each}"
        )
    return f"{each} Macro is the mean over the classes; micro takes every image and class as one example. {independent}"


def _averages(metrics: Mapping[str, Any]) -> str:
    lines = [f"<tr><td>Loss<td class=n>{metrics['loss']:.4f}<td></tr>"]
    if "accuracy" in metrics:
        lines.append(f"<tr><td>Accuracy{_figure(metrics['accuracy'], metrics['accuracy_interval'])}</tr>")
    for kind in ("macro", "micro"):
        for area in ("auroc", "auprc"):
            average = metrics[kind]
            cells = _figure(average[area], average["intervals"][area]) if average else _figure(None, None)
            lines.append(f"<tr><td>{kind.capitalize()} {area.upper()}{cells}</tr>")
    return f"<table><tr><th><th class=n>value<th>95% interval</tr>{''.join(lines)}</table>"


def _class_table(metrics: Mapping[str, Any]) -> str:
    heads = "".join(f"<th class=n>{title}<th>95% interval" for name, title in FIGURES if name != "accuracy")
    lines = []
    for name, entry in metrics["per_class"].items():
        figures = entry["figures"]
        cells = (
            _cells(figures, figure) if figures else _figure(None, None) for figure, _ in FIGURES if figure != "accuracy"
        )
        positives, threshold = f"{entry['positives']:,}", f"{entry['threshold']:.3f}"
        lines.append(f"<tr><td>{escape(name)}<td class=n>{positives}<td class=n>{threshold}{''.join(cells)}</tr>")
    head = f"<tr><th>Class<th class=n>positives<th class=n>threshold{heads}</tr>"
    return f"<h2>Each class</h2><table class=wide>{head}{''.join(lines)}</table>"


def _curves(images: Mapping[str, bytes]) -> str:
    return (
        _picture(images["curves"], "training curves") if "curves" in images else "<p>No curves in the run folder.</p>"
    )


def _figures(metrics: Mapping[str, Any]) -> str:
    half = metrics["at_threshold_0.5"]
    lines = [f"<tr><td>Loss<td class=n>{metrics['loss']:.4f}<td><td><td></tr>"]
    for name, title in (*FIGURES, *_MORE):
        cells = _cells(metrics, name) + (_cells(half, name) if name in half else "<td><td>")
        lines.append(f"<tr><td>{title}{cells}</tr>")
    threshold = metrics["threshold"]["value"]
    head = f"<tr><th><th class=n>at {threshold:.3f}<th>95% interval<th class=n>at 0.5<th>95% interval</tr>"
    return f"<table>{head}{''.join(lines)}</table>"


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    if not mistakes:
        return "<p>None.</p>"
    items = (
        f'<figure><img src="{data_uri(image_png(mistake.image))}" alt="example {escape(mistake.id)}">'
        f"<figcaption>{_caption(mistake)}<br>{escape(mistake.id)}</figcaption></figure>"
        for mistake in mistakes
    )
    return f"<p class=note>The most confident mistakes come first.</p><div class=row>{''.join(items)}</div>"


def _caption(mistake: Mistake) -> str:
    return f"{escape(mistake.predicted)} p = {mistake.probability:.4f}".strip()


def _settings(config: RunConfig) -> str:
    recipe, image = config.recipe, config.image
    entries = {
        "model": recipe.model + (f", from {recipe.source}" if recipe.sha256 else ""),
        "epochs": recipe.epochs,
        "batch size": recipe.batch_size,
        "optimiser": f"Adam, learning rate {recipe.learning_rate:g}",
        "augmentation": "on" if recipe.augment else "off",
        "balanced classes": "on" if recipe.balanced else "off",
        "seed": config.seed,
        "trained on": f"{config.data['name']} {config.data['version']}, revision {config.data['revision']}",
        "images": f"{image.image_size} x {image.image_size} x {image.channels}, {image.resize_mode}",
        "versions": ", ".join(f"{name} {version}" for name, version in config.versions.items()),
    }
    rows = (f"<tr><td>{name}<td>{escape(str(value))}</tr>" for name, value in entries.items())
    return f"<table>{''.join(rows)}</table>"


def _picture(png: bytes, text: str) -> str:
    return f'<img src="{data_uri(png)}" alt="{text}">'


def _cells(point: Mapping[str, Any], name: str) -> str:
    return _figure(point[name], point["intervals"][name])


def _figure(value: float | None, interval: Sequence[float] | None) -> str:
    number = "undefined" if value is None else f"{value:.4f}"
    return f"<td class=n>{number}<td>" + ("" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}")
