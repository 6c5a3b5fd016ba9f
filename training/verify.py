"""`python -m training.verify`: checks that runs and exports are whole, without executing anything of them."""

import os
import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import VerifyConfig
from training.loading import LEVEL, quiet_loading


def parse(argv: Sequence[str]) -> VerifyConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser(
        "training.verify", "Check that runs and exports are whole, without executing anything of them."
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a run, local or gs://, or a local export")
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    return VerifyConfig(tuple(flags["paths"]))


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    with quiet_loading():  # it imports Keras
        from training.exporting.verify import verify

    verify(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
