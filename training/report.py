"""report.html: one page with everything about an evaluation. It needs no other file and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from training.plots import data_uri, image_png
from training.run_folder import RunConfig

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
"""
FIGURES = (
    ("accuracy", "Accuracy"),
    ("sensitivity", "Sensitivity"),
    ("specificity", "Specificity"),
    ("auroc", "AUROC"),
    ("auprc", "AUPRC"),
)


@dataclass(frozen=True)
class Mistake:
    """One wrongly classified example. image: uint8 [height, width, channels]; probability: of the second class."""

    image: npt.NDArray[np.uint8]
    label: int
    id: str
    probability: float


def report(
    config: RunConfig,
    metrics: Mapping[str, Any],
    images: Mapping[str, bytes],
    mistakes: Mapping[int, Sequence[Mistake]],
) -> str:
    """The page. `metrics` is the content of metrics.json; `images` are PNG files named curves, confusion and roc (curves may
    be missing); `mistakes` holds the most confident ones by true label (0: false positives, 1: false negatives)."""
    data, best = metrics["data"], config.best or {}
    title = f"{config.recipe.name} on {data['name']} {data['version']}, split {metrics['split']}"
    negative, positive = config.classes
    parts = (
        f"<h1>{escape(title)}</h1>",
        f"<p class=note>{metrics['examples']:,} examples. Not a medical device: for research only.</p>",
        "<h2>Figures</h2>",
        _figures(metrics),
        *(f"<p class=note>Note: {escape(note)}.</p>" for note in metrics["notes"]),
        f"<p class=note>Positive is {escape(positive)}. Always predicting the more frequent class has an accuracy of "
        f"{metrics['majority_class_accuracy']:.4f}. The threshold {escape(metrics['threshold']['source'])}. "
        "The 95% intervals assume independent images; several images of one patient are not.</p>",
        "<h2>Confusion matrix and ROC</h2>",
        f"<div class=row>{_picture(images['confusion'], 'matrix')}{_picture(images['roc'], 'ROC curve')}</div>",
        "<h2>Training</h2>",
        _curves(images),
        f"<p class=note>The weights are from epoch {best['epoch']:.0f}, the best by AUC on the validation split: "
        f"AUC {best['val_auc']:.4f}, accuracy {best['val_accuracy']:.4f} at 0.5.</p>",
        f"<h2>False positives: {escape(negative)} predicted as {escape(positive)}</h2>",
        _mistakes(mistakes[0]),
        f"<h2>False negatives: {escape(positive)} predicted as {escape(negative)}</h2>",
        _mistakes(mistakes[1]),
        "<h2>How it was made</h2>",
        _settings(config),
    )
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _curves(images: Mapping[str, bytes]) -> str:
    return (
        _picture(images["curves"], "training curves") if "curves" in images else "<p>No curves in the run folder.</p>"
    )


def _figures(metrics: Mapping[str, Any]) -> str:
    half = metrics["at_threshold_0.5"]
    lines = [f"<tr><td>Loss<td class=n>{metrics['loss']:.4f}<td><td><td></tr>"]
    for name, title in FIGURES:
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
        f"<figcaption>p = {mistake.probability:.4f}<br>{escape(mistake.id)}</figcaption></figure>"
        for mistake in mistakes
    )
    return f"<p class=note>The most confident mistakes come first.</p><div class=row>{''.join(items)}</div>"


def _settings(config: RunConfig) -> str:
    recipe, image = config.recipe, config.image
    entries = {
        "model": recipe.model,
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
    value, interval = point[name], point["intervals"][name]
    number = "undefined" if value is None else f"{value:.4f}"
    return f"<td class=n>{number}<td>" + ("" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}")
