"""The options of Beam that we choose for jobs on Flink and Prism, where the user leaves them open."""

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)

from beam_jobs.engines import flink_rest
from beam_jobs.engines.remote import RemoteJob
from schemas.errors import UsageError

WORKER = "radrecords-worker"  # the console script of beam_jobs/engines/worker.py
_NEVER_SECONDS = 7 * 24 * 3600


def complete(options: PipelineOptions, job: RemoteJob) -> None:
    """Fills in the options of a job on another engine. Raises UsageError if no Flink answers at --flink_master, or one that
    Beam does not know."""
    runner = options.view_as(StandardOptions).runner
    if runner == "PrismRunner":
        # Beam gives Prism this time for the whole job, not only for its answers.
        options.view_as(PortableOptions).job_server_timeout = _NEVER_SECONDS
    if runner != "DataflowRunner":
        options.view_as(GoogleCloudOptions).job_name = job.name  # other engines take it too
    if not job.flink:
        return
    try:
        cluster = flink_rest.cluster(job.flink)
    except OSError as error:
        raise UsageError(
            f"--flink_master {job.flink.removeprefix('http://')}: no Flink answers there ({flink_rest.reason(error)}); "
            "give the host and port of its web page"
        ) from error
    options.view_as(FlinkRunnerOptions).flink_master = job.flink
    _choose_version(options, cluster.version)
    _choose_workers(options)
    flink = options.view_as(FlinkRunnerOptions)
    if flink.parallelism < 1:
        # A job that wants more than the free slots waits for minutes and then fails.
        flink.parallelism = cluster.free or cluster.slots or -1


def _choose_version(options: PipelineOptions, version: str) -> None:
    """The version decides which job server Beam downloads."""
    flink = options.view_as(FlinkRunnerOptions)
    known = FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    if flink.flink_job_server_jar:
        return
    minor = ".".join(version.split(".")[:2])
    if minor not in known:
        raise UsageError(
            f"--flink_master runs Flink {version}, and this Beam has job servers for {', '.join(known)} only; use one of "
            "these, or give --flink_job_server_jar"
        )
    flink.flink_version = minor


def _choose_workers(options: PipelineOptions) -> None:
    portable = options.view_as(PortableOptions)
    if portable.environment_type or options.view_as(WorkerOptions).sdk_container_image:
        return
    portable.environment_type = "PROCESS"
    if not portable.environment_config and portable.lookup_environment_option("process_command") is None:
        portable.add_environment_option(f"process_command={WORKER}")
