"""The paper's table, measured again.

OUTPUT/RECIPE/               the seeds of each recipe (seeds.py)
OUTPUT/report.md, report.svg the paper's table beside ours; written last
"""

import sys
from pathlib import Path

from schemas.errors import UsageError
from training.comparing.comparison_plots import figure_svg_file, spread_of_recipes
from training.comparing.paper_table import PAPER, report
from training.config import ReproduceConfig
from training.fitting.interruption import Stopped
from training.fitting.seeds import TEST, split_to_report, train_seeds
from training.reading.records import open_dataset
from training.task import BINARY, task_of

PAGE, PICTURE = "report.md", "report.svg"


def reproduce(config: ReproduceConfig) -> str:
    """Trains and evaluates what is missing, writes the report and returns its text.

    Raises UsageError, before anything is trained, if the data set does not have two classes, Stopped after a signal, and
    otherwise what training and evaluation raise.
    """
    manifest = open_dataset(config.data)
    if task_of(manifest).kind != BINARY:
        raise UsageError(
            f"{config.data} has labels {', '.join(manifest.classes)}, but the paper's set has two classes; convert the "
            "Kermany set with --preset kermany"
        )
    split = split_to_report(manifest)
    if split != TEST:
        print(f"warning: {config.data} has no test images; the report is of split {split}", file=sys.stderr)
    try:
        found = [train_seeds(run) for run in config.runs]
    except Stopped as stopped:  # which names a flag of training.train
        again = "the same command, without --overwrite," if config.overwrite else "the same command"
        raise Stopped(f"stopped; give {again} to continue", stopped.exit_code - 128) from stopped
    text = report(found, PICTURE)
    try:
        Path(config.output, PICTURE).write_bytes(figure_svg_file(spread_of_recipes(found, PAPER)))
        Path(config.output, PAGE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to --output {config.output}: {error.strerror}") from error
    print(f"report: {Path(config.output, PAGE)}")
    return text
