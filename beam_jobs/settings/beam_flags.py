"""What Beam's flags say, read without loading Beam."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from beam_jobs.settings.config import LOCAL_RUNNERS
from schemas.errors import UsageError

_RUNNER = "--runner"
_RUNNERS = (
    *filter(None, LOCAL_RUNNERS),
    "FlinkRunner",
    "DataflowRunner",
    "PrismRunner",
    "SparkRunner",
    "PortableRunner",
)
_SPELLINGS = {spelling: name for name in _RUNNERS for spelling in (name.lower(), name.lower().removesuffix("runner"))}


class BeamParser(argparse.ArgumentParser):
    """A parser of Beam's flags. argparse, as Beam uses it, prints pages of usage and ends the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def with_full_runner(argv: Sequence[str]) -> list[str]:
    """The arguments with the full name of the runner, which Beam takes in any case and without "Runner". The name of a class
    is kept. Raises UsageError for another one."""
    found, number = list(argv), 0
    while number < len(found):
        flag, equals, name = found[number].partition("=")
        if flag == _RUNNER and (equals or number + 1 < len(found)):
            name = name if equals else found[number + 1]
            full = _SPELLINGS.get(name.lower(), name if "." in name else None)
            if full is None:
                raise UsageError(
                    f"unknown --runner {name}; give one of {', '.join(_RUNNERS)}, or a class as module.Name"
                )
            found[number : number + 1 + (not equals)] = [f"{_RUNNER}={full}"]
        number += 1
    return found


def value_of(beam_flags: Sequence[str], name: str) -> str:
    """The value of a flag (`--runner`), "" without one."""
    one = BeamParser(add_help=False, allow_abbrev=False)
    one.add_argument(name, default="", dest="value")
    try:
        return str(one.parse_known_args(beam_flags)[0].value)
    except UsageError:  # the value is missing; runners.beam_options reports it
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
