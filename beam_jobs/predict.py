"""Raw radiographs -> published scores: `python -m beam_jobs.predict --model FILE --input DIR --output DIR`.

It starts as a conversion does (convert.py). It needs no TensorFlow.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence

from beam_jobs.convert import launch
from schemas.errors import ending_when_interrupted, run_command


def main(argv: Sequence[str], supervised: bool = False) -> None:
    """Predicts and prints the summary; with --dry_run, prints what it would do. `supervised`: a local job runs in a child of
    this process, and an interrupt ends the child and everything that the child started."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see convert.py
    with ending_when_interrupted():
        from beam_jobs.predict_flags import config_of, parser
        from beam_jobs.settings import dataflow
        from beam_jobs.settings.beam_flags import is_local, with_full_runner

    argv = with_full_runner(argv)
    dataflow.check_given(argv, "model")
    flags, beam_flags = parser().parse_known_args(argv)
    config = config_of(flags, local=is_local(beam_flags))
    launch(_job, config, beam_flags, argv, supervised, flags, "beam_jobs.predict")


def _job() -> Callable[..., None]:
    from beam_jobs.prediction import predict_and_print

    return predict_and_print


if __name__ == "__main__":
    sys.exit(run_command(functools.partial(main, supervised=True)))
