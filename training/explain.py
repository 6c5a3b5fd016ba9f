"""`python -m training.explain`: pictures of the parts of an image that a model looks at."""

import sys
from collections.abc import Sequence

from schemas.errors import CommandParser, run_command
from training.config import METHODS, OCCLUSION, ExplainConfig
from training.loading import flags_of, quiet_loading


def parse(argv: Sequence[str]) -> ExplainConfig:
    """The config for the flags in `argv`. Raises UsageError for a wrong flag."""
    parser = CommandParser("training.explain", "Draw over images which parts of them a model looks at.")
    parser.add_argument("--run", required=True, help="the run folder, local or gs://")
    parser.add_argument("--output", required=True, help="the local folder for the pictures")
    parser.add_argument("--method", default=OCCLUSION, choices=METHODS, help="how to look into the model")
    parser.add_argument("--layer", help="the layer that gradcam or activations look at (default: the last convolution)")
    parser.add_argument(
        "--target", metavar="CLASS", help="the class to explain (default: the second of two, or the most probable one)"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, or a folder whose files are all read")
    flags = flags_of(parser, argv)
    return ExplainConfig(images=tuple(flags.pop("images")), **flags)


def main(argv: Sequence[str]) -> None:
    config = parse(argv)
    # Importing TensorFlow takes seconds; --help and wrong flags must not wait for it.
    with quiet_loading():
        from training.explanation.explain_images import explain

    explain(config)


if __name__ == "__main__":
    sys.exit(run_command(main))
