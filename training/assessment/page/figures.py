"""The figures of metrics.json as tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.assessment.page.content import Content
from training.assessment.page.tables import UNDEFINED, Cell, Figure, Table, interval_of, score, share
from training.task import BINARY, MULTILABEL

# In the order of the report. The first ones depend on the operating point.
POINT = {
    "sensitivity": ("Sensitivity", share),
    "specificity": ("Specificity", share),
    "ppv": ("PPV", share),
    "npv": ("NPV", share),
    "accuracy": ("Accuracy", share),
    "balanced_accuracy": ("Balanced accuracy", share),
    "f1": ("F1", score),
    "mcc": ("MCC", score),
}
ANY_POINT = {
    "auroc": ("AUROC", score),
    "auprc": ("AUPRC", score),
    "loss": ("Log loss", score),
}
FIGURES: Mapping[str, tuple[str, Callable[..., Figure]]] = {**POINT, **ANY_POINT}
# What a line of a table has room for; metrics.json has all.
OF_A_CLASS = ("sensitivity", "specificity", "ppv", "npv", "auroc", "auprc")
OF_A_GROUP = ("sensitivity", "specificity", "accuracy", "auroc", "auprc")
CALIBRATION = {"ece": ("ECE", score), "brier": ("Brier score", score)}


def cell(figures: Mapping[str, Any] | None, name: str) -> Figure:
    """The figure `name`, which may be None, with its interval."""
    _, form = FIGURES.get(name) or CALIBRATION[name]
    return form(figures[name], interval_of(figures, name)) if figures else Figure(UNDEFINED)


def key_figures(content: Content) -> list[tuple[str, Figure]]:
    """The three or four figures that are read first."""
    metrics = content.metrics
    if content.run.task.kind == BINARY:
        return [(FIGURES[name][0], cell(metrics, name)) for name in ("auroc", "sensitivity", "specificity", "accuracy")]
    found = []
    if "accuracy" in metrics:
        found.append(("Accuracy", share(metrics["accuracy"], metrics["accuracy_interval"])))
    for kind, area in (("macro", "auroc"), ("micro", "auroc"), ("macro", "auprc")):
        found.append((f"{kind.capitalize()} {area.upper()}", cell(metrics[kind], area)))
    return found


def overall(content: Content) -> list[Table]:
    """The figures of the whole split: at the operating point and at 0.5, and those that need no threshold; or, of several
    classes, the averages."""
    metrics = content.metrics
    if content.run.task.kind == BINARY:
        names = [name for name in ANY_POINT if name in metrics]
        return [
            _at_points(metrics),
            Table(["", "at any threshold"], [[ANY_POINT[name][0], cell(metrics, name)] for name in names]),
        ]
    rows: list[list[Cell]] = []
    if "accuracy" in metrics:
        rows.append(["Accuracy", share(metrics["accuracy"], metrics["accuracy_interval"])])
    for kind in ("macro", "micro"):
        rows += [
            [f"{kind.capitalize()} {ANY_POINT[area][0]}", cell(metrics[kind], area)] for area in ("auroc", "auprc")
        ]
    rows += [
        [FIGURES[name][0], cell(metrics, name)] for name in ("balanced_accuracy", "mcc", "loss") if name in metrics
    ]
    return [Table(["", "value"], rows)]


def _at_points(metrics: Mapping[str, Any]) -> Table:
    half, threshold = metrics["at_threshold_0.5"], metrics["threshold"]["value"]
    names = [name for name in POINT if name in metrics]
    rows: list[list[Cell]] = [[POINT[name][0], cell(metrics, name), _optional(half, name)] for name in names]
    if at := metrics.get("at_prevalence"):
        for name in ("ppv", "npv"):
            title = f"{POINT[name][0]} where {share(at['prevalence']).value} are positive"
            rows.append([title, cell(at, name), _optional(half.get("at_prevalence", {}), name)])
    return Table(["", f"at {threshold:.3f}", "at 0.5"], rows)


def classes(metrics: Mapping[str, Any]) -> Table:
    """The figures of each class against the rest."""
    rows: list[list[Cell]] = []
    per_class = metrics["per_class"]
    names = [name for name in OF_A_CLASS if any(name in (entry["figures"] or {}) for entry in per_class.values())]
    for name, entry in per_class.items():
        figures = [cell(entry["figures"], figure) for figure in names]
        rows.append([name, f"{entry['positives']:,}", f"{entry['threshold']:.3f}", *figures])
    return Table(["", "positives", "threshold", *(FIGURES[name][0] for name in names)], rows)


def confusion(content: Content) -> Table:
    """The confusion matrix, rows true and columns predicted; of several findings, that of each in a row."""
    metrics, task = content.metrics, content.run.task
    if task.kind == MULTILABEL:
        return _confusions(metrics["per_class"])
    rows: list[list[Cell]] = []
    for name, counts in zip(task.classes, metrics["confusion_matrix"], strict=True):
        total = max(sum(counts), 1)
        rows.append([f"is {name}", *(Figure(f"{count:,}", share=count / total) for count in counts)])
    return Table(["", *(f"called {name}" for name in task.classes)], rows, matrix=True)


def _confusions(per_class: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    for name, entry in per_class.items():
        (tn, fp), (fn, tp) = entry["figures"]["confusion_matrix"] if entry["figures"] else ((0, 0), (0, 0))
        present, absent = max(tp + fn, 1), max(tn + fp, 1)
        found = ((tp, present), (fn, present), (fp, absent), (tn, absent))
        rows.append([name, *(Figure(f"{count:,}", share=count / total) for count, total in found)])
    return Table(["", "found", "missed", "false alarms", "rightly absent"], rows)


def calibration(found: Mapping[str, Any]) -> Table:
    """How far probabilities are from frequencies, before temperature scaling and, of a run with a temperature, after it."""
    sides = ["before", "after"] if found["temperature"] != 1.0 else ["before"]
    rows: list[list[Cell]] = [
        [title, *(cell(found[side], name) for side in sides)] for name, (title, _) in CALIBRATION.items()
    ]
    return Table(["", *sides], rows)


def subgroups(column: str, values: Mapping[str, Mapping[str, Any]]) -> Table:
    """The figures of each subgroup by the values of one column."""
    several = any("per_class" in entry for entry in values.values())
    cells = _averages_of_group if several else _figures_of_group
    rows = [(value, f"{entry['examples']:,}", cells(entry)) for value, entry in values.items()]
    return Table(
        [column, "images", *rows[0][2]], [[value, images, *figures.values()] for value, images, figures in rows]
    )


def _figures_of_group(entry: Mapping[str, Any]) -> dict[str, Figure]:
    """Those of OF_A_GROUP by their titles. A group of one class has the areas against all images of the other."""
    against = entry.get("against_the_other_class", {})
    return {FIGURES[name][0]: cell(against if name in against else entry, name) for name in OF_A_GROUP}


def _averages_of_group(entry: Mapping[str, Any]) -> dict[str, Figure]:
    accuracy = {"Accuracy": share(entry["accuracy"], entry["accuracy_interval"])} if "accuracy" in entry else {}
    return accuracy | {f"Macro {ANY_POINT[area][0]}": cell(entry["macro"], area) for area in ("auroc", "auprc")}


def _optional(entry: Mapping[str, Any], name: str) -> Cell:
    return cell(entry, name) if name in entry else ""


def tables(content: Content) -> list[tuple[str, Sequence[Table]]]:
    """Every table of figures, under its title."""
    metrics = content.metrics
    found: list[tuple[str, Sequence[Table]]] = [("Figures", overall(content))]
    if "per_class" in metrics:
        found.append(("Each class", [classes(metrics)]))
    found.append(("Confusion matrix", [confusion(content)]))
    found.append(("Calibration", [calibration(metrics["calibration"])]))
    if metrics.get("subgroups"):
        found.append(("Subgroups", [subgroups(column, values) for column, values in metrics["subgroups"].items()]))
    return found
