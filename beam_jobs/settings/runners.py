"""Beam's options, and the engine that runs a job on this machine."""

import os
import shlex
import sys

from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TypeOptions,
)
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from beam_jobs.settings.beam_flags import BeamParser
from beam_jobs.settings.config import LOCAL_RUNNERS, ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import UsageError

# The job servers of these runners know more options than Beam's Python code does.
_OPEN_ENDED_RUNNERS = ("PortableRunner", "FlinkRunner", "SparkRunner", "PrismRunner")


def beam_options(flags: list[str], module: str = "beam_jobs.convert") -> PipelineOptions:
    """Beam's options for the command `module`. `runner` is None if the job runs on this machine. Raises UsageError for an
    unknown flag or a wrong value."""
    parser = BeamParser(prog=f"python -m {module}", add_help=False, allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(kind):
            kind._add_argparse_args(parser)  # type: ignore[arg-type] # Beam's own parser differs only in what is not used here
    _, unknown = parser.parse_known_args(flags)
    options = PipelineOptions(flags)
    runner = options.view_as(StandardOptions).runner or ""
    if unknown and runner not in _OPEN_ENDED_RUNNERS:
        raise UsageError(f"unknown argument {unknown[0]}; see python -m {module} --help")
    if options.view_as(GoogleCloudOptions).template_location and runner != "DataflowRunner":
        raise UsageError("--template_location needs --runner=DataflowRunner: it stages a Dataflow template")
    if runner in LOCAL_RUNNERS:
        options.view_as(StandardOptions).runner = None
        # The check takes a sixth of a second. The tests check the types once, on the graph of a template.
        options.view_as(TypeOptions).pipeline_type_check = False
    options.view_as(SetupOptions).save_main_session = False  # every function is in an installed module
    return options


def on_dataflow(options: PipelineOptions) -> bool:
    """Whether the job runs on Dataflow."""
    runner: str | None = options.view_as(StandardOptions).runner
    return runner == "DataflowRunner"


def check_places(config: ConvertConfig, options: PipelineOptions) -> None:
    """Raises UsageError if Dataflow's workers could not reach a path of the config."""
    if not on_dataflow(options):
        return
    for flag in ("input", "output", "manifest", "retry_quarantine", "near_duplicates_of"):
        place = getattr(config, flag)
        if place and not storage.is_shared(place):
            raise UsageError(
                f"--{flag} {place} is local, and Dataflow workers cannot reach it; copy it to a gs:// bucket"
            )


def local_runner(options: PipelineOptions, folder: str) -> FnApiRunner:
    """The engine for this machine. Its workers are threads or, with --direct_running_mode, processes that end with this
    one and keep blocks in `folder`."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return FnApiRunner()
    direct.direct_running_mode = "in_memory"  # otherwise Beam would replace our command with its own
    # "exec", because the shell that Beam puts in between would hide the end of the launcher from the worker.
    command = ["exec", sys.executable, "-m", "beam_jobs.local.workers", str(os.getpid()), folder]
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(shlex.join(command)))
