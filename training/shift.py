"""`python -m training.shift`: what a recipe, or a run, reaches on proxies of distribution shift."""

import os
import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import ShiftConfig
from training.loading import LEVEL, quiet_loading
from training.models.recipes import RECIPES, recipe


def parse(argv: Sequence[str]) -> ShiftConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser(
        "training.shift",
        "Measure a recipe on corruptions, on populations that were left out of training, and on files.",
    )
    parser.add_argument("--data", required=True, help="folder of the data set, local or gs://")
    parser.add_argument("--output", required=True, help="local folder for the table and the trained runs")
    parser.add_argument(
        "--recipe",
        help=f"{', '.join(RECIPES)}, or your own: path/to/recipe.py or package.module:NAME; "
        "with --run, your own recipe, if the run was made with one",
    )
    parser.add_argument("--run", help="measure this run, local or gs://, instead of training")
    parser.add_argument("--subgroups", metavar="FILE|FOLDER", help="leave out each value of each column of this table")
    parser.add_argument("--id_key_file", metavar="FILE", help="the key of the ids, if the conversion had one")
    parser.add_argument("--raw", metavar="FOLDER", help="measure on these images too, labelled by their folders")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to train each model with")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="only these proxies")
    parser.add_argument("--resume", action="store_true", help="continue what --output holds")
    parser.add_argument("--overwrite", action="store_true", help="replace what --output holds")
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    with quiet_loading():  # a recipe of the user's own may import Keras
        flags["recipe"] = recipe(flags["recipe"]) if flags["recipe"] else None
    return ShiftConfig(**{**flags, "only": tuple(flags["only"])})


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.shifts.suite import run_suite

    run_suite(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
