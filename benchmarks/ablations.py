"""What does each part of the recipe `best` do? `python -m benchmarks.ablations --data DATA --runs FOLDER`

Trains variants of the recipe, each with one part left out or changed, and measures them on the corruptions of the shift
suite (training.shift). All train for the same few epochs, so the figures are lower than those of the whole recipe; compare
them with each other. The test split is never read.

A variant that FOLDER holds already is not trained again, so several of these commands can share the work. And variants that
an ablations.json in --output holds stay in it, if they are of the same data, epochs and seeds.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeGuard

from benchmarks.reading import cpu_name
from schemas.errors import run_command
from training.config import ShiftConfig
from training.loading import quiet_loading
from training.models.recipes import BEST, BEST_EPOCH, CONSTANT, MODEL3, Recipe

# What imports Keras is imported under quiet_loading, which sets TensorFlow up as in training.train.

Figures = Mapping[str, Any]

EPOCHS = 8
_BASE = replace(BEST, epochs=EPOCHS)
VARIANTS: dict[str, Recipe] = {
    "best": _BASE,
    "without augmentation": replace(_BASE, augment_strength=0.0),
    "augmentation of strength 0.5": replace(_BASE, augment_strength=0.5),
    "augmentation of strength 1.6": replace(_BASE, augment_strength=1.6),
    "the small changes of small_resnet": replace(_BASE, augment_strength=0.0, augment=True),
    "half the width": replace(_BASE, network={"width": 0.5}),
    "the network of small_resnet": replace(_BASE, model="small_resnet"),
    "the network of model3": replace(_BASE, model="model3"),
    "without label smoothing": replace(_BASE, label_smoothing=0.0),
    "without weight decay": replace(_BASE, weight_decay=0.0),
    "a constant learning rate, the best epoch": replace(_BASE, schedule=CONSTANT, keep=BEST_EPOCH),
    "classes as frequent as they are": replace(_BASE, balanced=False),
    "model3, as the paper has it": replace(MODEL3, epochs=EPOCHS),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; with --output, writes it as ablations.md and, with the figures, as ablations.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of a data set of two classes")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the trained runs")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--output", type=Path, help="folder for the table")
    flags = parser.parse_args(arguments)
    for name in flags.variants:
        folder = flags.runs / _folder_name(name)
        if not _is_of(_suite(folder), name, flags):
            _measure(replace(VARIANTS[name], epochs=flags.epochs), flags.data, folder, flags.seeds)
    earlier = flags.output and flags.output / "ablations.json"
    before = json.loads(earlier.read_text())["variants"] if earlier and earlier.exists() else {}
    # A later one of the same name counts.
    every = [(name, one) for name in VARIANTS for one in (before.get(name), _suite(flags.runs / _folder_name(name)))]
    found = {name: one for name, one in every if _is_of(one, name, flags)}
    data = found[flags.variants[0]]["data"]
    found = {name: one for name, one in found.items() if one["data"] == data}
    print(table(found))
    if flags.output:
        flags.output.mkdir(parents=True, exist_ok=True)
        result = {
            "machine": {"cpu": cpu_name(), "cores": os.cpu_count()},
            "versions": {package: version(package) for package in ("keras", "numpy")},
            "variants": found,
        }
        (flags.output / "ablations.json").write_text(json.dumps(result, indent=1) + "\n")
        (flags.output / "ablations.md").write_text(table(found))


def _folder_name(variant: str) -> str:
    return variant.replace(" ", "-").replace(",", "")


def _suite(folder: Path) -> Figures | None:
    """The figures of a suite that has been run in the folder."""
    file = folder / "shift.json"
    return _figures(json.loads(file.read_text())) if file.exists() else None


def _is_of(found: Figures | None, name: str, flags: argparse.Namespace) -> TypeGuard[Figures]:
    """Whether these are figures of the variant `name`, with the epochs and seeds of `flags`."""
    recipe = replace(VARIANTS[name], epochs=flags.epochs).to_json()
    return found is not None and (found["recipe"], found["seeds"]) == (recipe, list(range(flags.seeds)))


def _measure(recipe: Recipe, data: str, folder: Path, seeds: int) -> None:
    with quiet_loading():
        from training.shifts.plan import ALL_CORRUPTIONS
        from training.shifts.suite import run_suite

    run_suite(ShiftConfig(data, str(folder), recipe, seeds=seeds, only=(ALL_CORRUPTIONS,), resume=True))


def _figures(content: Mapping[str, Any]) -> Figures:
    """What ablations.json holds of a variant: the recipe, and the figures of the unchanged images and of the corruptions.
    `content`: of shift.json."""
    with quiet_loading():
        from training.shifts.figures import CORRUPTION, UNCHANGED

    (unchanged,) = (proxy["mean"] for proxy in content["proxies"] if proxy["kind"] == UNCHANGED)
    kept = {"recipe": content["recipe"], "seeds": content["seeds"], "data": content["data"]}
    return {**kept, "unchanged": unchanged, **content["summary"][CORRUPTION]}


def table(found: Mapping[str, Figures]) -> str:
    """Markdown: a row for each variant."""
    if not found:
        return "nothing was measured\n"
    first = next(iter(found.values()))
    lines = [
        f"Trained on {first['data']['name']} {first['data']['version']} for {first['recipe']['epochs']} epochs, with "
        f"{len(first['seeds'])} seed(s) each; in parentheses, the worst corruption and severity.",
        "",
        "| variant | AUROC, unchanged | AUROC, corruptions | balanced accuracy, corruptions | sensitivity / specificity |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, figures in found.items():
        mean, worst = figures["mean"], figures["worst"]
        lines.append(
            f"| {name} | {figures['unchanged']['auroc']:.3f} | {mean['auroc']:.3f} ({worst['auroc']:.3f}) | "
            f"{mean['balanced_accuracy']:.3f} ({worst['balanced_accuracy']:.3f}) | "
            f"{mean['sensitivity']:.3f} / {mean['specificity']:.3f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(run_command(main))
