"""Raw radiographs -> a published TFRecord data set: `python -m beam_jobs.convert --input DIR --output DIR`.

Beam takes most of a second to load. --help, wrong flags and the launcher of a local run do not load it, and the
decoders start while it loads. Everything is imported inside `main`, which turns an interrupt during an import into one
line.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from schemas.errors import ending_when_interrupted, run_command

if TYPE_CHECKING:
    from beam_jobs.settings.config import ConvertConfig


def main(argv: Sequence[str], supervised: bool = False) -> None:
    """Converts and prints the summary; with --dry_run, prints what it would do. `supervised`: a local job runs in a
    child of this process, and an interrupt ends the child and everything that the child started."""
    # More threads make no matrix product of this size faster, and they spin while they wait for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ending_when_interrupted():
        from beam_jobs.flags import config_of, is_local, parser
        from beam_jobs.write import reuse
        from schemas.source import check_place

    flags, beam_flags = parser().parse_known_args(argv)
    if flags.retry_quarantine:
        dataset = check_place("--retry_quarantine", flags.retry_quarantine).rstrip("/")
        flags = reuse.parse_with_settings(parser(), list(argv), dataset)
    launch(_job, config_of(flags, local=is_local(beam_flags)), beam_flags, argv, supervised, flags.debug)


def _job() -> Callable[..., None]:
    from beam_jobs.pipeline import convert_and_print

    return convert_and_print


def launch(
    job: Callable[[], Callable[..., None]],
    config: "ConvertConfig",
    beam_flags: list[str],
    argv: Sequence[str],
    supervised: bool,
    debug: bool,
    module: str = "beam_jobs.convert",
) -> None:
    """Loads Beam, then the `job`, a function of the config, Beam's options and `debug`, and runs it, in a child process if
    it is local and `supervised`. module: the command."""
    with ending_when_interrupted():
        from beam_jobs.decoding.decoder import pool
        from beam_jobs.flags import uses_processes
        from beam_jobs.local import supervise
        from beam_jobs.local.lean_beam import load_beam

    def run() -> None:
        if config.local and not config.dry_run and not uses_processes(beam_flags):
            pool(config).start()
        with ending_when_interrupted():
            if config.local:
                load_beam()
            run_job = job()
            from beam_jobs.settings import runners

        run_job(config, runners.beam_options(beam_flags, module), debug)

    if supervised and config.local and supervise.can_supervise():
        sys.exit(supervise.run_in_child(run, config, argv))
    run()


if __name__ == "__main__":
    sys.exit(run_command(functools.partial(main, supervised=True)))
