"""What Beam's flags say, read without loading Beam."""

import argparse
from collections.abc import Sequence

from beam_jobs.settings.config import LOCAL_RUNNERS


def value_of(beam_flags: Sequence[str], name: str) -> str:
    """The value of a flag (`--runner`), "" without one."""
    one = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    one.add_argument(name, default="", dest="value")
    try:
        return str(one.parse_known_args(beam_flags)[0].value)
    except SystemExit:  # the value is missing; Beam's own parser reports it
        return ""


def is_local(beam_flags: Sequence[str]) -> bool:
    """Whether Beam's flags run the job on this machine."""
    return value_of(beam_flags, "--runner") in LOCAL_RUNNERS


def uses_processes(beam_flags: Sequence[str]) -> bool:
    """Whether a local job has its own worker processes."""
    return value_of(beam_flags, "--direct_running_mode") == "multi_processing"


def runs_on_dataflow(beam_flags: Sequence[str]) -> bool:
    """Whether Beam's flags run the job on Dataflow."""
    return value_of(beam_flags, "--runner") == "DataflowRunner"
