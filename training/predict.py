"""`python -m training.predict`: path, probability and class of images, one line each, tab separated."""

import os
import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import PredictConfig
from training.loading import LEVEL, quiet_loading


def parse(argv: Sequence[str]) -> PredictConfig:
    """The config that the flags in `argv` say. Raises UsageError for a wrong one."""
    parser = CommandParser("training.predict", "Prints path, probability and class of images, tab separated.")
    parser.add_argument("--run", required=True, help="the run folder")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, or a folder for all files below it")
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    return PredictConfig(images=tuple(flags.pop("images")), **flags)


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; a wrong flag and --help do not wait for it.
    with quiet_loading():
        from training.predictions import predict_files

    predict_files(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
