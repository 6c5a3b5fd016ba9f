"""`python -m training.evaluate`: metrics.json, pictures, report.html and model_card.md of a run on one split."""

import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import EvaluateConfig
from training.loading import flags_of, quiet_loading


def parse(argv: Sequence[str]) -> EvaluateConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser("training.evaluate", "Evaluate a run on one split of a data set and write a report.")
    parser.add_argument("--run", required=True, help="the run folder, local or gs://")
    parser.add_argument("--data", required=True, help="folder of the data set, local or gs://")
    parser.add_argument("--split", default="test", help="the split to evaluate on")
    parser.add_argument("--output", help="local folder for the results (default: the run folder)")
    parser.add_argument("--verify_data", action="store_true", help="check the SHA-256 of the split's shards first")
    parser.add_argument(
        "--prevalence", type=float, metavar="P", help="also give PPV and NPV where this share is of the second class"
    )
    parser.add_argument(
        "--subgroups", metavar="FILE", help="a CSV of id or path and other columns: figures for each of their values"
    )
    parser.add_argument("--id_key_file", metavar="FILE", help="the key of the ids, for --subgroups with paths")
    flags = flags_of(parser, argv)
    return EvaluateConfig(**flags)


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.assessment.assess import evaluate

    evaluate(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
