"""`python -m training.predict`: what a run's model says of image files, one line per image."""

import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import JSON, TABLE, PredictConfig
from training.loading import flags_of, quiet_loading


def parse(argv: Sequence[str]) -> PredictConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser(
        "training.predict", "Print the probability and class of each image, and whether the run knows such images."
    )
    parser.add_argument("--run", required=True, help="the run folder, local or gs://")
    parser.add_argument(
        "--format",
        default=TABLE,
        metavar="FORMAT",
        help="table: text separated by tabs; json: JSON lines; csv: a CSV with a header",
    )
    parser.add_argument("--json", action="store_const", const=JSON, dest="format", help="short for --format json")
    parser.add_argument(
        "--adapt_prior",
        metavar="FOLDER",
        help="unlabelled images of the place where the model is used: estimate the shares of the classes there, and correct "
        "the probabilities and the class for them",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, or a folder whose files are all read")
    flags = flags_of(parser, argv)
    return PredictConfig(images=tuple(flags.pop("images")), **flags)


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.predicting.predict_files import predict_files

    predict_files(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
