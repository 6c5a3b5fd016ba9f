"""`python -m training.reproduce`: the paper's table beside ours, with the spread over seeds."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from schemas.errors import CommandParser, run_command
from training.config import ReproduceConfig
from training.loading import LEVEL, quiet_loading
from training.models.recipes import recipe

DEFAULT = ("model1", "model2", "model3", "best")


def parse(argv: Sequence[str]) -> ReproduceConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser(
        "training.reproduce",
        "Train the paper's models and ours with several seeds, and compare with the paper's table.",
    )
    parser.add_argument("--data", required=True, help="folder of the data set, local or gs://")
    parser.add_argument(
        "--output", required=True, help="local folder for the runs and the report; finished runs are kept"
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how many seeds of each recipe")
    parser.add_argument("--recipes", nargs="+", default=DEFAULT, metavar="RECIPE", help="what to train")
    parser.add_argument("--epochs", type=int, help="override the epochs of all recipes, for a quick try")
    parser.add_argument("--overwrite", action="store_true", help="train everything again")
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    with quiet_loading():  # a recipe of the user's own may import Keras
        recipes = [recipe(name) for name in flags.pop("recipes")]
    epochs = flags.pop("epochs")
    return ReproduceConfig(
        recipes=tuple(one if epochs is None else replace(one, epochs=epochs) for one in recipes), **flags
    )


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.fitting.reproduction import reproduce

    reproduce(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
