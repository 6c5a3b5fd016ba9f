"""report.md of training.reproduce: the paper's figures beside ours, from the contents of seeds.json (fitting/seeds.py)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.comparing.comparison_table import markdown_table
from training.comparing.spread import AT_HALF

# Of the paper, on the official test split, at a threshold of 0.5. It gives the first two accuracies as "about 75%".
PAPER: Mapping[str, Mapping[str, float]] = {
    "model1": {"accuracy": 0.75},
    "model2": {"accuracy": 0.75},
    "model3": {"accuracy": 0.8894, "loss": 0.325, "sensitivity": 0.964, "specificity": 0.765},
}
_ROUNDED = ("model1", "model2")
_THRESHOLDED = ("accuracy", "sensitivity", "specificity")
_NOT_TEST = (
    "**These are validation figures: the data set has no test images.** Epoch and threshold were chosen with the help of "
    "this split, which flatters all models. The paper's figures are of the official test split: do not compare."
)


def report(found: Sequence[Mapping[str, Any]], picture: str) -> str:
    """The page: the table at 0.5 as in the paper, the figures at the operating point, a picture, and every seed. found: the
    content of seeds.json of each recipe, all of the same data set and split. picture: a file name."""
    first = found[0]
    data, seeds = first["data"], first["seeds"]
    parts = (
        "# The paper's table, measured again",
        f"Data set {data['name']} {data['version']}, split {first['split']}: {first['examples']:,} images of "
        f"{first['patients']:,} patients. Always predicting the more frequent class has an accuracy of "
        f"{first['majority_class_accuracy']:.3f}. Seeds of each recipe: {', '.join(map(str, seeds))}; sd is the standard "
        f"deviation over them. Made by `make reproduce DATA=... SEEDS={len(seeds)}`.",
        *([] if first["split"] == "test" else [_NOT_TEST]),
        "## At a threshold of 0.5, as in the paper",
        _table(("accuracy", "sensitivity", "specificity", "loss"), found, at_half=True),
        "## At the operating point, which was chosen on validation",
        _table(("accuracy", "sensitivity", "specificity", "auroc"), found, at_half=False),
        f"![The accuracy of every seed, and the paper's]({picture})",
        "## Every seed",
        markdown_table(_HEAD, [row for content in found for row in _seeds(content)], texts=1),
    )
    return "\n\n".join(parts) + "\n"


_HEAD = ("recipe", "seed", "AUROC", "loss", *(f"{name} at 0.5" for name in _THRESHOLDED), "accuracy", *_THRESHOLDED[1:])


def _table(names: Sequence[str], found: Sequence[Mapping[str, Any]], at_half: bool) -> str:
    rows = []
    for content in found:
        name = content["recipe"]
        if at_half and name in PAPER:
            rows.append([name, "the paper", *(_papers(name, figure) for figure in names)])
        figures = [_figure(content, figure, at_half) for figure in names]
        epochs = f"{name}, {content['epochs']} epochs" if content["epochs"] > 1 else f"{name}, 1 epoch"
        rows.append([epochs, "mean (sd)", *(_number(each["mean"], each["sd"]) for each in figures)])
        rows.append(["", "range", *(f"{_number(each['min'])} to {_number(each['max'])}" for each in figures)])
    head = ["recipe", "", *("AUROC" if name == "auroc" else name for name in names)]
    return markdown_table(head, rows, texts=2)


def _seeds(content: Mapping[str, Any]) -> Iterator[list[str]]:
    for number, seed in enumerate(content["seeds"]):
        overall = [content["figures"][name] for name in ("auroc", "loss")]
        columns = [*overall, *(_figure(content, name, half) for half in (True, False) for name in _THRESHOLDED)]
        yield [content["recipe"], str(seed), *(_number(figure["values"][number]) for figure in columns)]


def _figure(content: Mapping[str, Any], name: str, at_half: bool) -> Mapping[str, Any]:
    found: Mapping[str, Any] = content[AT_HALF if at_half and name in _THRESHOLDED else "figures"][name]
    return found


def _papers(recipe: str, figure: str) -> str:
    value = PAPER[recipe].get(figure)
    if value is None:
        return ""
    return f"about {value:.2f}" if recipe in _ROUNDED else _number(value)


def _number(value: float | None, sd: float | None = None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" + ("" if sd is None else f" ({sd:.3f})")
