"""`python -m training.tune`: searches the settings of a recipe, and writes a recipe file."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from schemas.errors import CommandParser, UsageError, run_command
from training.config import TuneConfig
from training.loading import LEVEL, quiet_loading
from training.models.recipes import RECIPES, recipe


def parse(argv: Sequence[str]) -> TuneConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser(
        "training.tune", "Search a recipe's settings on validation and on corruptions, and write a recipe file."
    )
    parser.add_argument("--data", required=True, help="folder of the data set, local or gs://")
    parser.add_argument(
        "--recipe",
        required=True,
        help=f"what to begin with: {', '.join(RECIPES)}, or your own: path/to/recipe.py or package.module:NAME",
    )
    parser.add_argument("--output", required=True, help="local folder for the search and the recipe file")
    parser.add_argument("--trials", type=int, required=True, help="how many settings to try in all")
    parser.add_argument("--jobs", type=int, default=1, help="how many trials to run at a time, in processes")
    parser.add_argument("--seed", type=int, default=0, help="seed for the search and for each training")
    parser.add_argument("--resume", action="store_true", help="continue the search in --output")
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    with quiet_loading():  # a recipe of the user's own may import Keras
        chosen = recipe(flags.pop("recipe"))
    return TuneConfig(recipe=chosen, **flags)


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    if find_spec("optuna") is None:
        raise UsageError("the search needs the extra tune; in a clone, run: pip install '.[tune]'")
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.tuning.study import tune

    tune(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
