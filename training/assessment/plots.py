"""The figures of a run. Figure objects throughout: pyplot keeps every figure alive and asks for a display."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import auc, roc_curve

TRAIN, VALIDATION = "#4c78a8", "#e45756"
QUANTITIES = (("loss", "loss"), ("accuracy", "accuracy at 0.5"), ("auc", "AUC"))
DPI = 120


def curves(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, accuracy and AUC by epoch, of training and validation, with a line at the best epoch."""
    epochs = [row["epoch"] for row in rows]
    best = max(rows, key=lambda row: row["val_auc"])["epoch"]
    figure = Figure(figsize=(11, 3.2), layout="constrained", dpi=DPI)
    for axes, (name, title) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES, strict=True):
        axes.plot(epochs, [row[name] for row in rows], "o-", markersize=3, color=TRAIN, label="train (with dropout)")
        axes.plot(
            epochs, [row[f"val_{name}"] for row in rows], "o-", markersize=3, color=VALIDATION, label="validation"
        )
        axes.axvline(best, color="0.6", linestyle=":", label="best validation AUC")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        if name == "loss":
            axes.set_ylim(bottom=0)
            axes.legend(fontsize=8)
    return figure


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], threshold: float | None = None) -> Figure:
    """The confusion matrix, rows true and columns predicted, shaded by the share of the row."""
    side = max(4.2, 1.1 * len(classes))
    figure = Figure(figsize=(side, side - 0.4), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    _matrix(axes, matrix, 12)
    axes.set_xticks(range(len(classes)), classes, rotation=0 if len(classes) < 4 else 45)
    axes.set_yticks(range(len(classes)), classes, rotation=90, va="center")
    axes.set(xlabel="predicted", ylabel="true")
    if threshold is not None:
        axes.set_title(f"threshold {threshold:.3f}")
    return figure


def confusions(per_class: Mapping[str, Mapping[str, Any]]) -> Figure:
    """The confusion matrix of each finding at its threshold, absent and present; `per_class` of metrics.json."""
    columns = min(5, len(per_class))
    rows = -(-len(per_class) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.4 * rows), layout="constrained", dpi=DPI)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(per_class) :]:
        axes.axis("off")
    for axes, (name, entry) in zip(grid, per_class.items(), strict=False):
        axes.set_title(f"{name}, {entry['threshold']:.3f}", fontsize=9)
        _matrix(axes, entry["figures"]["confusion_matrix"] if entry["figures"] else [[0, 0], [0, 0]], 8)
        axes.set_xticks((0, 1), ("absent", "present"), fontsize=7)
        axes.set_yticks((0, 1), ("absent", "present"), fontsize=7, rotation=90, va="center")
    figure.supxlabel("predicted", fontsize=9)
    figure.supylabel("true", fontsize=9)
    return figure


def _matrix(axes: Axes, matrix: Sequence[Sequence[int]], size: int) -> None:
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        share = shares[row, column]
        color = "white" if share > 0.5 else "black"
        text = f"{counts[row, column]:,}\n{share:.1%}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def roc(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], threshold: float, auroc: float | None
) -> Figure:
    """The ROC curve with the operating points at `threshold` and 0.5, or a note if there is only one class."""
    figure, axes = _roc_axes(3.8)
    if auroc is None:
        axes.set_title("ROC: undefined, one class only")
        return figure
    false_positive, true_positive, _ = roc_curve(labels, probabilities)
    axes.plot(false_positive, true_positive, color=TRAIN)
    for point, marker, label in ((threshold, "o", f"threshold {threshold:.3f}"), (0.5, "s", "threshold 0.5")):
        called = probabilities >= point
        place = called[labels == 0].mean(), called[labels == 1].mean()
        axes.plot(*place, marker, color=VALIDATION, fillstyle="full" if marker == "o" else "none", label=label)
    axes.set_title(f"ROC, area {auroc:.4f}")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def rocs(columns: Mapping[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]) -> Figure:
    """The ROC curves of each class against the rest, from its labels (0 or 1) and probabilities; of those that have one."""
    figure, axes = _roc_axes(max(3.8, 0.25 * len(columns)), legend=2.2)
    colors = colormaps["tab20"].colors  # type: ignore[attr-defined] # untyped
    for number, (name, (labels, probabilities)) in enumerate(columns.items()):
        if 0 < labels.sum() < len(labels):
            false_positive, true_positive, _ = roc_curve(labels, probabilities)
            area = auc(false_positive, true_positive)
            axes.plot(false_positive, true_positive, color=colors[number % len(colors)], label=f"{name}, {area:.3f}")
    if axes.lines[1:]:
        figure.legend(loc="outside right upper", fontsize=8, title="area")
    else:
        axes.set_title("ROC: undefined")
    return figure


def _roc_axes(height: float, legend: float = 0.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(height + 0.4 + legend, height), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    axes.grid(alpha=0.25)
    return figure, axes


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def image_png(image: npt.NDArray[np.uint8]) -> bytes:
    """An image, uint8 [height, width, 1 or 3], as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, format="png")
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG file as a data URI, for a page that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
