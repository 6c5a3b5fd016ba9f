"""The figures of a run. Figure objects throughout: pyplot keeps every figure alive and asks for a display."""

import base64
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
Columns = Mapping[
    str, tuple[Labels, Probabilities, float]
]  # of each class against the rest: labels are 0 or 1; a threshold

TRAIN, VALIDATION = "#4c78a8", "#e45756"
# Of a bright page -> of the style sheet of the page that an SVG is in.
THEME = {"#000000": "currentColor", "#ffffff": "var(--paper)", TRAIN: "var(--line)", VALIDATION: "var(--mark)"}
QUANTITIES = (("loss", "loss"), ("accuracy", "accuracy at 0.5"), ("auc", "AUC"))
DPI = 120
_LONG = 40  # characters of a name in a legend


def curves(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Loss, accuracy and AUC by epoch, of training and validation, with a line at the best epoch."""
    figure = Figure(figsize=(11, 3.2), layout="constrained", dpi=DPI)
    for axes, (name, title) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES, strict=True):
        _curve(axes, rows, name, title)
        if name == "loss":
            axes.legend(fontsize=8)
    return figure


def curve(rows: Sequence[Mapping[str, float]], name: str, title: str) -> Figure:
    """One of QUANTITIES by epoch, as in `curves`."""
    figure = Figure(figsize=(4, 3.2), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    _curve(axes, rows, name, title)
    axes.legend(fontsize=8)
    return figure


def _curve(axes: Axes, rows: Sequence[Mapping[str, float]], name: str, title: str) -> None:
    epochs = [row["epoch"] for row in rows]
    best = max(rows, key=lambda row: row["val_auc"])["epoch"]
    sides = (name, TRAIN, "train (with dropout)"), (f"val_{name}", VALIDATION, "validation")
    for column, color, label in sides:
        axes.plot(epochs, [row[column] for row in rows], "o-", markersize=3, color=color, label=label)
    axes.axvline(best, color="0.6", linestyle=":", label="best validation AUC")
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    if name == "loss":
        axes.set_ylim(bottom=0)


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


def roc(labels: Labels, probabilities: Probabilities, threshold: float, auroc: float | None) -> Figure:
    """The ROC curve with the operating points at `threshold` and 0.5, or a note if there is only one class."""
    figure, axes = _roc_axes(3.8)
    if auroc is None:
        axes.set_title("ROC: undefined, one class only")
        return figure
    false_positive, true_positive, _ = roc_curve(labels, probabilities)
    axes.plot(false_positive, true_positive, color=TRAIN)
    for point, style in _points(threshold):
        called = probabilities >= point
        axes.plot(called[labels == 0].mean(), called[labels == 1].mean(), **style)
    axes.set_title(f"ROC, area {auroc:.3f}")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def precision_recall(labels: Labels, probabilities: Probabilities, threshold: float, auprc: float | None) -> Figure:
    """The precision-recall curve, as steps (Davis and Goadrich 2006, ICML: lines between its points would promise too
    much), with the operating points at `threshold` and 0.5, or a note if there is only one class."""
    figure, axes = _precision_axes(3.8)
    if auprc is None:
        axes.set_title("Precision-recall: undefined, one class only")
        return figure
    precision, recall, _ = precision_recall_curve(labels, probabilities, drop_intermediate=True)
    axes.step(recall, precision, where="post", color=TRAIN)
    axes.axhline(labels.mean(), color="0.7", linestyle="--", linewidth=1)
    for point, style in _points(threshold):
        called = probabilities >= point
        if called.any():
            axes.plot(called[labels == 1].mean(), labels[called].mean(), **style)
    axes.set_title(f"Precision-recall, area {auprc:.3f}")
    axes.legend(loc="lower left", fontsize=8)
    return figure


def _points(threshold: float) -> list[tuple[float, dict[str, Any]]]:
    """The two operating points, and how they are drawn."""
    both = ((threshold, "o", "full", f"threshold {threshold:.3f}"), (0.5, "s", "none", "threshold 0.5"))
    return [
        (point, {"marker": marker, "color": VALIDATION, "fillstyle": fill, "linestyle": "", "label": label})
        for point, marker, fill, label in both
    ]


def rocs(columns: Columns) -> Figure:
    """The ROC curves of each class against the rest, of those that have one, with their operating points."""
    figure, axes = _roc_axes(3.8, columns)
    for color, name, labels, probabilities, threshold in _drawn(columns):
        false_positive, true_positive, _ = roc_curve(labels, probabilities)
        area = auc(false_positive, true_positive)
        axes.plot(false_positive, true_positive, color=color, label=f"{name}, {area:.3f}")
        called = probabilities >= threshold
        axes.plot(called[labels == 0].mean(), called[labels == 1].mean(), "o", color=color)
    _legend(figure, axes, "ROC", _legend_columns(columns))
    return figure


def precision_recalls(columns: Columns) -> Figure:
    """The precision-recall curves of each class against the rest, as in `rocs`."""
    figure, axes = _precision_axes(3.8, columns)
    for color, name, labels, probabilities, threshold in _drawn(columns):
        precision, recall, _ = precision_recall_curve(labels, probabilities, drop_intermediate=True)
        area = average_precision_score(labels, probabilities)
        axes.step(recall, precision, where="post", color=color, label=f"{name}, {area:.3f}")
        called = probabilities >= threshold
        if called.any():
            axes.plot(called[labels == 1].mean(), labels[called].mean(), "o", color=color)
    _legend(figure, axes, "Precision-recall", _legend_columns(columns))
    return figure


def _drawn(columns: Columns) -> Iterator[tuple[Any, str, Labels, Probabilities, float]]:
    """The classes that have curves, with a colour each."""
    colors = colormaps["tab20"].colors  # type: ignore[attr-defined] # untyped
    for number, (name, (labels, probabilities, threshold)) in enumerate(columns.items()):
        if 0 < labels.sum() < len(labels):
            yield colors[number % len(colors)], _short(name), labels, probabilities, threshold


def _short(name: str) -> str:
    """A name as a legend shows it."""
    cut = name if len(name) <= _LONG else f"{name[: _LONG - 1]}\N{HORIZONTAL ELLIPSIS}"
    return cut.replace("$", "\\$")  # which would begin a formula


def _legend(figure: Figure, axes: Axes, title: str, columns: int) -> None:
    """A legend below the curves, where it needs no width on a phone."""
    handles, names = axes.get_legend_handles_labels()
    axes.set_title(f"{title}, areas" if handles else f"{title}: undefined")
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8)


def _legend_columns(names: Iterable[str]) -> int:
    return 2 if max(map(len, names)) <= _LONG // 2 else 1


def _roc_axes(height: float, legend: Collection[str] = ()) -> tuple[Figure, Axes]:
    figure, axes = _unit_axes(height, legend, "1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    return figure, axes


def _precision_axes(height: float, legend: Collection[str] = ()) -> tuple[Figure, Axes]:
    return _unit_axes(height, legend, "sensitivity (recall)", "PPV (precision)")


def _unit_axes(height: float, legend: Collection[str], across: str, up: str) -> tuple[Figure, Axes]:
    """Axes from 0 to 1, above a legend of these names."""
    rows = -(-len(legend) // _legend_columns(legend)) if legend else 0
    figure = Figure(figsize=(height + 0.4, height + (0.2 * rows + 0.2 if rows else 0)), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    return figure, axes


def reliability(bins: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """The observed share, with its interval, over the mean predicted probability of each bin; `bins` of metrics.json. The
    area of a dot grows with the number of its examples."""
    figure, axes = _unit_axes(3.8, (), "predicted probability", "observed share")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    filled = [each for each in bins if each["count"]]
    most = max((each["count"] for each in filled), default=1)
    for each in filled:
        low, high = each["interval"] or (each["observed"], each["observed"])
        axes.plot([each["predicted"]] * 2, [low, high], color=TRAIN, linewidth=1)
        size = 3 + 9 * (each["count"] / most) ** 0.5
        axes.plot(each["predicted"], each["observed"], "o", color=TRAIN, markersize=size)
    axes.set_title(title)
    return figure


def figure_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an SVG element for an HTML page, in the colours of the page's style sheet (THEME). Equal figures give
    equal text. name: no other figure of the page has it, so that their ids differ."""
    buffer = io.StringIO()
    figure.draw_without_rendering()  # the layout settles in the second turn
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    # A page needs neither the name spaces nor the style for all elements; nothing is drawn beyond the axes.
    text = re.sub(r"<(metadata|style|clipPath)\b.*?</\1>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' clip-path="[^"]*"', "", text)
    used = set(re.findall(r'href="#(\w+)"', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 system-ui, sans-serif", text)
    for color, variable in THEME.items():
        text = text.replace(color, variable)
    head = f'<svg class="chart" role="img" aria-label="{escape(description)}"'
    return re.sub(r'^<svg [^>]*(viewBox="[^"]*")[^>]*>', lambda found: f"{head} {found[1]}>", text).strip()


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
