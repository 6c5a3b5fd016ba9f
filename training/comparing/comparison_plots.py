"""Pictures of several runs: their ROC curves in one frame, and the spread of their accuracy."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from sklearn.metrics import auc, roc_curve

from training.assessment.plots import DPI, TRAIN, VALIDATION
from training.assessment.predictions import Predictions
from training.comparing.spread import AT_HALF
from training.metrics.several_classes import one_vs_rest
from training.metrics.weighted import Labels, Probabilities
from training.runs.run_folder import RunConfig
from training.task import BINARY

_LONG = 40  # characters of a name in a legend


def overlaid_rocs(runs: Mapping[str, tuple[RunConfig, Predictions]]) -> Figure:
    """The ROC curve of each run, by name, with its area and its operating point; of several classes or findings, that of all
    images and classes taken as one example each (the micro average), without points."""
    figure = Figure(figsize=(5, 5), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title="ROC")
    axes.set_aspect("equal")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    axes.grid(alpha=0.25)
    styles = ((color, line) for line in cycle(("-", "--", ":")) for color in colormaps["tab10"].colors)  # type: ignore[attr-defined] # untyped
    for (name, (run, found)), (color, line) in zip(runs.items(), styles, strict=False):
        labels, probabilities = _as_one(run, found)
        if not 0 < labels.sum() < len(labels):
            continue
        false_positive, true_positive, _ = roc_curve(labels, probabilities)
        label = f"{_short(name)}, area {auc(false_positive, true_positive):.3f}"
        axes.plot(false_positive, true_positive, color=color, linestyle=line, linewidth=1.2, label=label)
        if run.task.kind == BINARY:
            called = probabilities >= run.thresholds[0]
            axes.plot(called[labels == 0].mean(), called[labels == 1].mean(), "o", color=color, markersize=5)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", fontsize=8)
    else:
        axes.set_title("ROC: undefined, one class only")
    return figure


def figure_svg_file(figure: Figure) -> bytes:
    """The figure as an SVG file. Equal figures give equal files."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "radrecords"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _as_one(run: RunConfig, found: Predictions) -> tuple[Labels, Probabilities]:
    columns = [
        (of_class[certain], found.probabilities[certain, index])
        for index, (of_class, certain) in enumerate(one_vs_rest(found.labels, run.task))
    ]
    return np.concatenate([labels for labels, _ in columns]), np.concatenate([scores for _, scores in columns])


def _short(name: str) -> str:
    """A name as the legend shows it."""
    cut = name if len(name) <= _LONG else f"...{name[3 - _LONG :]}"
    return cut.replace("$", "\\$")  # which would begin a formula


def spread_of_recipes(found: Sequence[Mapping[str, Any]], papers: Mapping[str, Mapping[str, float]]) -> Figure:
    """The accuracy of every seed of each recipe, at 0.5 and at the operating point, with the paper's. found: the content of
    seeds.json of each recipe. papers: the paper's figures, by recipe."""
    figure = Figure(figsize=(2 + 1.4 * len(found), 4), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    for place, content in enumerate(found):
        last = place == len(found) - 1  # whose labels the legend shows
        for side, key, fill, label in (
            (-0.2, AT_HALF, "full", "a seed, threshold 0.5"),
            (0.2, "figures", "none", "a seed, operating point"),
        ):
            values = content[key]["accuracy"]["values"]
            across = place + side + (np.linspace(-0.1, 0.1, len(values)) if len(values) > 1 else np.zeros(1))
            axes.plot(across, values, "o", color=TRAIN, fillstyle=fill, label=label if last else None)
        if content["recipe"] in papers:
            axes.plot([place - 0.4, place + 0.4], [papers[content["recipe"]]["accuracy"]] * 2, color=VALIDATION)
    if any(content["recipe"] in papers for content in found):
        axes.plot([], [], color=VALIDATION, label="the paper, threshold 0.5")
    axes.set_xticks(range(len(found)), [content["recipe"] for content in found])
    axes.set(ylabel=f"accuracy, split {found[0]['split']}", xlim=(-0.6, len(found) - 0.4))
    axes.grid(axis="y", alpha=0.25)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2)
    return figure
