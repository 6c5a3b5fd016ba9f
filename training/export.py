"""`python -m training.export`: the model of a run as one file or folder that other software serves."""

import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import EXPORT_FORMATS, ExportConfig
from training.loading import flags_of, quiet_loading


def parse(argv: Sequence[str]) -> ExportConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser(
        "training.export", "Write the model of a run as one file or folder that is served elsewhere."
    )
    parser.add_argument("--run", required=True, help="the run folder, local or gs://")
    parser.add_argument("--format", required=True, choices=EXPORT_FORMATS, help="what to write")
    parser.add_argument("--output", required=True, help="the local file, or for savedmodel the folder, to write")
    flags = flags_of(parser, argv)
    return ExportConfig(**flags)


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.exporting.export_run import export

    export(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
