"""What a job on Dataflow gets where the user says nothing: the one place of these defaults, and the options without
which there is no job. Beam's options are loaded when they are needed, because the flags are checked without Beam."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from beam_jobs.settings.beam_flags import BeamParser
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from schemas.errors import UsageError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_Config = TypeVar("_Config", bound=ConvertConfig)

RUNNER = "DataflowRunner"
REQUIRED = ("input", "output", "project", "region")

# Dataflow starts one Python process per vCPU, each with its own decoders and reading threads, and bills vCPUs and
# memory alike for all machine series: so a recent series, and machines small enough for single ones to be had at once.
MACHINE_TYPE = "n2-standard-4"
AUTOSCALING = "THROUGHPUT_BASED"
MOST_WORKERS = 50
# In each Python process: bundles at a time, decoding processes, and reads that wait for a bucket at a time. Eight reads
# of 50 ms are 160 images per second, more than a vCPU converts of usual radiographs. A worker that has its machine for
# itself has 16, which would be 256 on 16 vCPUs, times the twelve bundles that Beam runs at a time.
HARNESS_THREADS = 2
DECODERS = 1
READING_THREADS = 8
TEMPORARY = "radrecords-temp"  # the folder in the output's bucket
LABEL = "app", "radrecords"
_NO_FREEZE = (
    "disable_logging_submission_environment"  # the experiment without which Beam stages a list of this environment
)
_ONE_PROCESS = "no_use_multiple_sdk_containers"  # the experiment that starts one Python process per machine


def check_given(arguments: Sequence[str], *more: str) -> None:
    """Raises UsageError, naming all that is missing, if these arguments ask for Dataflow without what it needs. `more`:
    other options that the command needs."""
    one = BeamParser(add_help=False, allow_abbrev=False)
    required = (*more, *REQUIRED)
    for name in ("runner", *required):
        one.add_argument(f"--{name}")
    try:
        given = vars(one.parse_known_args(list(arguments))[0])
    except UsageError:  # a value is missing; the parsers of the command report it
        return
    missing = [f"--{name}" for name in required if not given[name]]
    if given["runner"] == RUNNER and missing and not {"-h", "--help"} & set(arguments):
        raise UsageError(f"--runner={RUNNER} needs {_listed(missing)}; give {'it' if len(missing) == 1 else 'them'}")


def with_defaults(config: _Config, options: "PipelineOptions") -> _Config:
    """Completes the options of a Dataflow job, in place, where the user has given nothing, and returns the config with
    what suits its workers. Raises UsageError, in one line, for options that Dataflow would refuse. Leaves the options of
    other runners as they are."""
    from apache_beam.options.pipeline_options import DebugOptions, StandardOptions, WorkerOptions

    if options.view_as(StandardOptions).runner != RUNNER:
        return config
    _complete_cloud(config, options)
    workers, debug = options.view_as(WorkerOptions), options.view_as(DebugOptions)
    workers.machine_type = workers.machine_type or MACHINE_TYPE
    workers.autoscaling_algorithm = workers.autoscaling_algorithm or AUTOSCALING
    if workers.autoscaling_algorithm == AUTOSCALING:
        workers.max_num_workers = workers.max_num_workers or max(MOST_WORKERS, workers.num_workers or 0)
    debug.add_experiment(_NO_FREEZE)  # that list would name folders of this machine
    _check(options)
    if debug.lookup_experiment(_ONE_PROCESS):
        return config
    debug.number_of_worker_harness_threads = debug.number_of_worker_harness_threads or HARNESS_THREADS
    return replace(config, threads=config.threads or READING_THREADS, decoders=config.decoders or DECODERS)


def _complete_cloud(config: ConvertConfig, options: "PipelineOptions") -> None:
    """The job's name and labels, and the folders for what is staged."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    cloud = options.view_as(GoogleCloudOptions)
    bucket = "/".join(config.output.split("/")[:3])  # gs://BUCKET
    cloud.temp_location = cloud.temp_location or cloud.staging_location or storage.join(bucket, TEMPORARY)
    cloud.staging_location = cloud.staging_location or storage.join(cloud.temp_location, "staging")
    for name in ("temp_location", "staging_location"):  # Beam would make a bucket of its own instead
        place = getattr(cloud, name)
        if not re.fullmatch("gs://[^/]+/.+", place):
            raise UsageError(f"--{name} {place} is no folder in a bucket; give gs://BUCKET/FOLDER")
    dataset = _plain(config.name)[:40], _plain(config.version)[:20]
    # Beam's own name would show the user who launched the job. With the launch in it, two launches are two jobs.
    cloud.job_name = cloud.job_name or "-".join(filter(None, ("radrecords", *dataset, config.launch[:8])))
    given = {label.partition("=")[0] for label in cloud.labels or ()}
    ours = dict([LABEL, ("dataset", dataset[0]), ("version", dataset[1])])
    cloud.labels = [*(cloud.labels or ()), *(f"{key}={value}" for key, value in ours.items() if key not in given)]


def _check(options: "PipelineOptions") -> None:
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.runner import create_runner

    try:
        runner = create_runner(RUNNER)
    except ImportError as error:
        raise UsageError("Dataflow needs the extra gcp; in a clone, run: pip install '.[gcp]'") from error
    logging.disable(logging.WARNING)  # about the buckets; Beam checks again, and says so again, when the job starts
    try:
        errors = PipelineOptionsValidator(options, runner).validate()
    finally:
        logging.disable(logging.NOTSET)
    if errors:
        raise UsageError("; ".join(error.rstrip(".") for error in errors))


def _plain(text: str) -> str:
    """`text` in the letters that job names and labels may have."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
