"""Several runs on the same split: their figures, the differences to the first run, and their ROC curves.

compare.json                what the other files show
compare.md                  tables for people
compare.png, compare.svg    the ROC curves
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from schemas.errors import UsageError
from training.assessment.assess import check_kind
from training.assessment.figures import figures_of
from training.assessment.plots import figure_png
from training.assessment.predictions import Predictions, predict_split
from training.comparing import comparison_plots
from training.comparing.comparison_table import page, tables
from training.config import CompareConfig, EvaluateConfig
from training.metrics.paired import Predicted, differences, mcnemar, right
from training.metrics.two_classes import BOOTSTRAP
from training.reading.records import check_shards, open_dataset, open_split
from training.runs import run_folder
from training.runs.run_bucket import working_copy
from training.runs.run_folder import RunConfig
from training.task import MULTILABEL

JSON, PAGE, PNG, SVG = "compare.json", "compare.md", "compare.png", "compare.svg"
_USED_IN_TRAINING = ("train", "validation")


def compare(config: CompareConfig) -> dict[str, Any]:
    """Writes the results and returns the content of compare.json.

    Raises UsageError if a run cannot be read or does not fit the data set, or the runs predict different classes, and
    JobFailed for damaged shards.
    """
    manifest = open_dataset(config.data)
    split = open_split(config.data, manifest, config.split)
    with ExitStack() as copies:
        folders = [copies.enter_context(working_copy(run, run_folder.MODEL)).folder for run in config.runs]
        stored = [run_folder.read_config(folder) for folder in folders]
        check_alike(config.runs, stored)
        loaded = [
            run_folder.load_run(folder, config.recipe_of(run.recipe.sha256))
            for folder, run in zip(folders, stored, strict=True)
        ]
        for name, (_, run) in zip(config.runs, loaded, strict=True):
            check_kind(EvaluateConfig(name, config.data, config.split), run, manifest)
        check_shards([split], config.verify_data)
        found = [predict_split(model, split) for model, _ in loaded]
    runs = [run for _, run in loaded]
    content = {
        "split": config.split,
        "data": {"name": manifest.name, "version": manifest.version, "revision": manifest.revision},
        "classes": list(manifest.classes),
        **compared(config.runs, runs, found),
    }
    if config.split in _USED_IN_TRAINING:
        content["notes"].append(f"split {config.split} was used in training, so its figures flatter the models")
    _write(Path(config.output), content, runs, found)
    print(tables(content))
    print(f"comparison: {Path(config.output, PAGE)}")
    return content


def compared(names: Sequence[str], runs: Sequence[RunConfig], found: Sequence[Predictions]) -> dict[str, Any]:
    """The figures of each run, and the differences to the first one, from the predictions of all for the same examples."""
    task, labels, groups = runs[0].task, found[0].labels, found[0].groups
    models = [Predicted(each.probabilities, run.thresholds) for run, each in zip(runs, found, strict=True)]
    figures = [figures_of(each, run) for run, each in zip(runs, found, strict=True)]
    shorter = short_names(names)
    examples, patients = figures[0]["examples"], figures[0]["patients"]
    rows: list[dict[str, Any]] = [
        {"run": name, "to": shorter[0], "figures": each}
        for name, each in zip(shorter[1:], differences(labels, models, task, groups), strict=True)
    ]
    if task.kind != MULTILABEL:
        first, *others = (right(labels, model, task) for model in models)
        for row, other in zip(rows, others, strict=True):
            row["mcnemar"] = mcnemar(first, other)
    notes = []
    if patients < examples and task.kind != MULTILABEL:
        notes.append(
            "McNemar's test takes all images as independent, but some patients have several, so its p may be too small; "
            "the intervals keep the images of a patient together"
        )
    return {
        "examples": examples,
        "patients": patients,
        "runs": [
            {
                "run": given,
                "name": name,
                "recipe": run.recipe.name,
                "seed": run.seed,
                "threshold": dict(run.threshold or {}),
                "figures": each,
            }
            for given, name, run, each in zip(names, shorter, runs, figures, strict=True)
        ],
        "differences": rows,
        "method": f"{BOOTSTRAP}, the same for each run",
        "notes": notes,
    }


def check_alike(names: Sequence[str], runs: Sequence[RunConfig]) -> None:
    """Raises UsageError if the runs do not all predict the same."""
    for name, run in zip(names, runs, strict=True):
        if (run.classes, run.label_kind) != (runs[0].classes, runs[0].label_kind):
            raise UsageError(
                f"run {names[0]} predicts {', '.join(runs[0].classes)} ({runs[0].task.kind}) and run {name} "
                f"{', '.join(run.classes)} ({run.task.kind}); compare runs of the same classes"
            )


def short_names(runs: Sequence[str]) -> list[str]:
    """The ends of the paths, as long as it takes to tell the runs apart."""
    parts = [run.rstrip("/").split("/") for run in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(runs)


def _write(output: Path, content: dict[str, Any], runs: Sequence[RunConfig], found: Sequence[Predictions]) -> None:
    names = [run["name"] for run in content["runs"]]
    figure = comparison_plots.overlaid_rocs(dict(zip(names, zip(runs, found, strict=True), strict=True)))
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / JSON).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (output / PNG).write_bytes(figure_png(figure))
        (output / SVG).write_bytes(comparison_plots.figure_svg_file(figure))
        (output / PAGE).write_text(page(content, SVG), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to --output {output}: {error.strerror}") from error
