"""Raw radiographs -> a published TFRecord data set: `python -m beam_jobs.convert --input DIR --output DIR`.

Beam takes most of a second to load. --help, wrong flags and the launcher of a local run do not load it, and the
decoders start while it loads. Everything is imported inside `main`, which turns an interrupt during an import into one
line.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from schemas.errors import ending_when_interrupted, run_command

if TYPE_CHECKING:
    from beam_jobs.engines.remote import RemoteJob
    from beam_jobs.settings.config import ConvertConfig


def main(argv: Sequence[str], supervised: bool = False) -> None:
    """Converts and prints the summary; with --dry_run, prints what it would do. `supervised`: the job runs in a child of
    this process, and an interrupt ends the child, everything that the child started, and the job on another engine."""
    # More threads make no matrix product of this size faster, and they spin while they wait for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ending_when_interrupted():
        from beam_jobs.flags import config_of, parser
        from beam_jobs.settings import dataflow
        from beam_jobs.settings.beam_flags import is_local, with_full_runner
        from beam_jobs.write import reuse
        from schemas.source import check_place

    argv = with_full_runner(argv)
    dataflow.check_given(argv)
    flags, beam_flags = parser().parse_known_args(argv)
    if flags.retry_quarantine:
        dataset = check_place("--retry_quarantine", flags.retry_quarantine).rstrip("/")
        flags = reuse.parse_with_settings(parser(), list(argv), dataset)
    launch(_job, config_of(flags, local=is_local(beam_flags)), beam_flags, argv, supervised, flags)


def _job() -> Callable[..., None]:
    from beam_jobs.pipeline import convert_and_print

    return convert_and_print


def launch(
    job: Callable[[], Callable[..., None]],
    config: "ConvertConfig",
    beam_flags: list[str],
    argv: Sequence[str],
    supervised: bool,
    flags: argparse.Namespace,
    module: str = "beam_jobs.convert",
) -> None:
    """Loads Beam, then the `job`, a function of the config, Beam's options and whether to debug, and runs it, in a child
    process if it is `supervised`. flags: of the command `module`; they have `debug` and `detach`."""
    with ending_when_interrupted():
        from beam_jobs.decoding.decoder import pool
        from beam_jobs.local import supervise
        from beam_jobs.local.lean_beam import load_beam
        from beam_jobs.settings.beam_flags import runs_on_dataflow, uses_processes

    remote = _remote_job(config, beam_flags, flags.detach)

    def run() -> None:
        if config.local and not config.dry_run and not uses_processes(beam_flags):
            pool(config).start()
        with ending_when_interrupted():
            if config.local:
                load_beam()
            run_job = job()
            from beam_jobs.settings import runners

            if remote:
                from beam_jobs.engines import defaults, failures

        options = runners.beam_options(beam_flags, module)
        if remote and not config.dry_run:
            with failures.telling_that_nothing_was_published():
                defaults.complete(options, remote)
        run_job(config, options, flags.debug)

    if supervised and supervise.can_supervise() and not runs_on_dataflow(beam_flags):
        sys.exit(supervise.run_in_child(run, config, argv, *([remote.end] if remote else [])))
    run()


def _remote_job(config: "ConvertConfig", beam_flags: list[str], detach: bool) -> "RemoteJob | None":
    if config.local and not detach:  # a local job starts without what this loads
        return None
    with ending_when_interrupted():
        from beam_jobs.engines.remote import remote_job

    return remote_job(beam_flags, config, detach)


if __name__ == "__main__":
    sys.exit(run_command(functools.partial(main, supervised=True)))
