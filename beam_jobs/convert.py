"""Raw radiographs -> a published TFRecord data set: `python -m beam_jobs.convert --input DIR --output DIR`.

Beam takes most of a second to load. --help, wrong flags and the launcher of a local run do not load it, and the
decoders start while it loads. Everything is imported inside `main`, which turns an interrupt during an import into one
line.
"""

import functools
import os
import sys
from collections.abc import Sequence

from schemas.errors import ending_when_interrupted, run_command


def main(argv: Sequence[str], supervised: bool = False) -> None:
    """Converts and prints the summary; with --dry_run, prints what it would do. `supervised`: the job runs in a child of
    this process, and an interrupt ends the child, everything that the child started, and the job on another engine."""
    # More threads make no matrix product of this size faster, and they spin while they wait for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ending_when_interrupted():
        from beam_jobs.decoding.decoder import pool
        from beam_jobs.engines.remote import remote_job
        from beam_jobs.flags import config_of, parser
        from beam_jobs.local import supervise
        from beam_jobs.local.lean_beam import load_beam
        from beam_jobs.settings import dataflow
        from beam_jobs.settings.beam_flags import is_local, runs_on_dataflow, uses_processes
        from beam_jobs.write import reuse
        from schemas.source import check_place

    dataflow.check_given(argv)
    flags, beam_flags = parser().parse_known_args(argv)
    if flags.retry_quarantine:
        dataset = check_place("--retry_quarantine", flags.retry_quarantine).rstrip("/")
        flags = reuse.parse_with_settings(parser(), list(argv), dataset)
    config = config_of(flags, local=is_local(beam_flags))
    job = remote_job(beam_flags, config, flags.detach)

    def run() -> None:
        if config.local and not config.dry_run and not uses_processes(beam_flags):
            pool(config).start()
        with ending_when_interrupted():
            if config.local:
                load_beam()
            from beam_jobs import pipeline
            from beam_jobs.engines import defaults
            from beam_jobs.settings import runners

        options = runners.beam_options(beam_flags)
        if job and not config.dry_run:
            defaults.complete(options, job)
        pipeline.convert_and_print(config, options, flags.debug)

    if supervised and supervise.can_supervise() and not runs_on_dataflow(beam_flags):
        sys.exit(supervise.run_in_child(run, config, argv, *([job.end] if job else [])))
    run()


if __name__ == "__main__":
    sys.exit(run_command(functools.partial(main, supervised=True)))
