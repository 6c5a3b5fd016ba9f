"""`python -m training.compare`: several runs side by side on one split, with the differences between them."""

import os
import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import CompareConfig
from training.loading import LEVEL, quiet_loading
from training.models.recipes import own_recipe


def parse(argv: Sequence[str]) -> CompareConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser("training.compare", "Compare runs on one split of a data set, each with the first.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two or more run folders, local or gs://")
    parser.add_argument("--data", required=True, help="folder of the data set, local or gs://")
    parser.add_argument("--split", default="test", help="the split to compare on")
    parser.add_argument("--output", required=True, help="local folder for the results")
    parser.add_argument("--verify_data", action="store_true", help="check the SHA-256 of the split's shards first")
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="FILE", help="your own recipe, if a run was made with one"
    )
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    with quiet_loading():  # they may import Keras
        own = [own_recipe(name) for name in flags.pop("recipe")]
    flags["runs"] = tuple(flags["runs"])
    return CompareConfig(recipes=tuple(recipe for recipe in own if recipe), **flags)


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.comparing.comparison import compare

    compare(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
