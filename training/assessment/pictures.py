"""Which pictures an evaluation has: files beside the report, and charts on its page."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from training.assessment import plots
from training.metrics.several_classes import one_vs_rest
from training.metrics.two_classes import Labels, Probabilities
from training.runs.run_folder import CONFUSION, ROC, RunConfig
from training.task import BINARY, MULTILABEL


def pictures(
    labels: Labels, probabilities: Probabilities, run: RunConfig, metrics: Mapping[str, Any]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """PNG files by name, and SVG elements by what they show: roc, precision_recall, and reliability before and after
    scaling. labels: of records; probabilities: [examples, outputs of the model]; metrics: the content of metrics.json."""
    curves = _curves(labels, probabilities, run, metrics)
    files = {ROC: plots.figure_png(curves["roc"]), CONFUSION: plots.figure_png(_confusion(run, metrics))}
    charts = {name: plots.figure_svg(figure, name, _CURVES[name]) for name, figure in curves.items()}
    return files, {**charts, **_reliability(metrics["calibration"])}


_CURVES = {"roc": "ROC curve", "precision_recall": "precision-recall curve"}


def _reliability(calibration: Mapping[str, Any]) -> dict[str, str]:
    charts = {}
    for side in ("before", "after") if calibration["temperature"] != 1.0 else ("before",):
        title = f"{side} scaling, ECE {calibration[side]['ece']:.3f}"
        figure = plots.reliability(calibration[side]["bins"], title)
        charts[side] = plots.figure_svg(figure, side, f"reliability {title}")
    return charts


def training_curves(rows: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """SVG elements of loss, accuracy and AUC by epoch; none without epochs. rows: of history.csv."""
    if not rows:
        return {}
    return {
        name: plots.figure_svg(plots.curve(rows, name, title), name, f"{title} by epoch")
        for name, title in plots.QUANTITIES
    }


def _curves(
    labels: Labels, probabilities: Probabilities, run: RunConfig, metrics: Mapping[str, Any]
) -> dict[str, Figure]:
    if run.task.kind == BINARY:
        of_second, (threshold,) = probabilities[:, 0], run.thresholds
        return {
            "roc": plots.roc(labels, of_second, threshold, metrics["auroc"]),
            "precision_recall": plots.precision_recall(labels, of_second, threshold, metrics["auprc"]),
        }
    columns = {
        name: (of_class[certain], probabilities[certain, index], run.thresholds[index])
        for index, (name, (of_class, certain)) in enumerate(
            zip(run.classes, one_vs_rest(labels, run.task), strict=True)
        )
    }
    return {"roc": plots.rocs(columns), "precision_recall": plots.precision_recalls(columns)}


def _confusion(run: RunConfig, metrics: Mapping[str, Any]) -> Figure:
    if run.task.kind == MULTILABEL:
        return plots.confusions(metrics["per_class"])
    threshold = run.thresholds[0] if run.task.kind == BINARY else None
    return plots.confusion(metrics["confusion_matrix"], run.classes, threshold)
