"""`python -m training.train`: trains a recipe on a data set and writes a run folder (see run_folder.py), or one for each of
several seeds (see fitting/seeds.py)."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from schemas.errors import CommandParser, run_command
from training.config import CACHES, TrainConfig
from training.decisions.operating_points import DEFAULT, FORMS, operating_point
from training.loading import LEVEL, quiet_loading
from training.models.recipes import RECIPES, recipe

_OF_THE_RECIPE = ("epochs", "batch_size", "learning_rate", "augment", "balanced", "weights", "ensemble")


def parse(argv: Sequence[str]) -> TrainConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser("training.train", "Train a recipe on a data set and write a run folder.")
    parser.add_argument("--data", required=True, help="folder of the data set, local or gs://")
    parser.add_argument(
        "--recipe", required=True, help=f"{', '.join(RECIPES)}, or your own: path/to/recipe.py or package.module:NAME"
    )
    parser.add_argument("--output", required=True, help="the run folder, local or gs://")
    _add_recipe(parser)
    _add_machine(parser)
    _add_seeds(parser)
    parser.add_argument(
        "--early_stopping",
        type=int,
        default=0,
        metavar="PATIENCE",
        help="epochs without a better validation AUC; 0 is off",
    )
    parser.add_argument(
        "--operating_point",
        metavar=FORMS,
        help=f"how the threshold is chosen on the validation split; {DEFAULT} unless a resumed run has another",
    )
    parser.add_argument("--profile", action="store_true", help="write a TensorBoard profile of one epoch")
    parser.add_argument("--verify_data", action="store_true", help="check every shard's SHA-256 first")
    parser.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --output")
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    given = {name: flags.pop(name) for name in _OF_THE_RECIPE}
    changes = {name: value for name, value in given.items() if value is not None and value is not False}
    point = flags.pop("operating_point")
    with quiet_loading():  # a recipe of the user's own may import Keras
        chosen = recipe(flags.pop("recipe"))
    return TrainConfig(
        recipe=replace(chosen, **changes), operating_point=None if point is None else operating_point(point), **flags
    )


def _add_recipe(parser: CommandParser) -> None:
    """The flags that override the recipe."""
    parser.add_argument("--epochs", type=int, help="override the recipe's epochs")
    parser.add_argument("--batch_size", type=int, help="override the recipe's batch size")
    parser.add_argument("--learning_rate", type=float, help="override the recipe's learning rate")
    parser.add_argument(
        "--augment", action="store_true", help="small random rotations, shifts, zooms and contrast changes"
    )
    parser.add_argument("--balanced", action="store_true", help="weight the loss so that all classes count equally")
    parser.add_argument(
        "--weights",
        metavar="none|imagenet|FILE",
        help="what densenet121 starts from; imagenet is downloaded (default: none)",
    )
    parser.add_argument(
        "--ensemble", type=int, metavar="N", help="train N networks, and predict the means of their probabilities"
    )


def _add_seeds(parser: CommandParser) -> None:
    """The flags that say how often to train."""
    parser.add_argument("--seed", type=int, default=0, help="seed for weights, order, dropout and augmentation")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train and evaluate N runs, with --seed and those after it, in --output"
    )
    parser.add_argument(
        "--split", help="with --seeds, the split to evaluate on (default: test, or validation if there is no test)"
    )


def _add_machine(parser: CommandParser) -> None:
    """The flags that say how the machine is used."""
    parser.add_argument("--mixed_precision", action="store_true", help="compute in 16 bits, for GPUs")
    parser.add_argument(
        "--cache",
        choices=CACHES,
        default="auto",
        help="where to keep the examples between epochs",
    )
    parser.add_argument(
        "--cache_mb", type=int, default=2048, help="with --cache auto, up to this size of images is kept in memory"
    )
    parser.add_argument(
        "--disk_cache_mb", type=int, default=65_536, help="the size of the cache on the disk, shared by all runs"
    )
    parser.add_argument(
        "--read_ahead_mb",
        type=int,
        default=64,
        help="how much of a split that is not kept in memory to hold; half of it is shuffled together",
    )
    parser.add_argument("--jit", choices=("auto", "on", "off"), default="auto", help="compile the steps with XLA")
    parser.add_argument("--devices", default="1", metavar="N|all", help="how many GPUs share each batch")


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.fitting.fit import train
        from training.fitting.seeds import train_seeds

    if config.seeds is None:
        train(config)
    else:
        train_seeds(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
