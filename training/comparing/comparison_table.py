"""compare.md: the content of compare.json as Markdown tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.assessment.assess import summary_of


def page(content: Mapping[str, Any], picture: str) -> str:
    """The whole page, with the file name of the ROC curves."""
    data = content["data"]
    what = f"{data['name']} {data['version']}, split {content['split']}"
    two = "value" in content["runs"][0]["threshold"]
    shown = "The dots are the operating points." if two else "Micro averages over the classes."
    return f"# Runs on {what}\n\n{tables(content)}\n\n![ROC curves of the runs]({picture})\n\n{shown}\n"


def tables(content: Mapping[str, Any]) -> str:
    """The figures of the runs, and the differences to the first run."""
    rows = content["differences"]
    first = content["runs"][0]["name"]
    parts = [
        f"{content['examples']:,} examples of {content['patients']:,} patients; 95% intervals in parentheses.",
        _table([_figures(run) for run in content["runs"]], texts=2),
        f"Differences to {_cell(first)}, in parentheses the {content['method']}:",
        _table([_differences(row) for row in rows]),
        *(f"Note: {note}." for note in content["notes"]),
    ]
    return "\n\n".join(parts)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first columns are texts, and whose others are numbers, on the right."""
    rule = ["---" if column < texts else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _table(rows: Sequence[Mapping[str, str]], texts: int = 1) -> str:
    head = [name.replace("auroc", "AUROC").replace("auprc", "AUPRC") for name in rows[0]]
    return markdown_table(head, [list(row.values()) for row in rows], texts)


def _figures(run: Mapping[str, Any]) -> dict[str, str]:
    cells = {"run": _cell(run["name"]), "recipe": _cell(run["recipe"]), "seed": str(run["seed"])}
    if "value" in run["threshold"]:
        cells["threshold"] = f"{run['threshold']['value']:.3f}"
    return cells | {name: _number(value, interval) for name, value, interval in summary_of(run["figures"])}


def _differences(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {"run": _cell(row["run"])}
    for name, figure in row["figures"].items():
        cells[name.replace("_", " ")] = _number(figure["difference"], figure["interval"], "+")
    if "mcnemar" in row:
        test = row["mcnemar"]
        cells |= {
            "only the first is right": str(test["only_the_first_is_right"]),
            "only this is right": str(test["only_this_is_right"]),
            "McNemar's p": "< 0.0001" if test["p_value"] < 0.0001 else f"{test['p_value']:.4f}",
        }
    return cells


def _number(value: float | None, interval: Sequence[float] | None, sign: str = "") -> str:
    if value is None:
        return "undefined"
    between = "" if interval is None else f" ({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})"
    return f"{value:{sign}.3f}{between}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
