"""What a job on another engine needs around it while it runs: a job server, lines for the user, and silence otherwise."""

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO, cast

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_jobs.engines.failures import last_line
from beam_jobs.engines.flink_rest import address_of
from beam_jobs.engines.job_server import job_server
from beam_jobs.engines.progress import Progress
from beam_jobs.engines.remote import RemoteJob
from beam_jobs.passing import status
from beam_jobs.publish import releases
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.settings.runners import on_dataflow
from beam_jobs.storage import storage

_PRISM = "PrismJobServer"  # the logger that gets what Prism prints; Beam changes its name in each line to "PrismRunner"
_OPEN = (
    "open"  # workers report only in a folder that is there, because the launcher may be gone, and its folder with it
)


@contextlib.contextmanager
def cancelling_on_dataflow(result: PipelineResult, config: ConvertConfig) -> Iterator[None]:
    """^C and SIGTERM in the body of the `with`, which waits for a job on Dataflow, cancel the job and wait until it has
    ended. They then raise a KeyboardInterrupt that says what is published."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        what = _end_on_dataflow(result)
        said = releases.after_interrupt(config).replace("interrupted", f"interrupted; {what}", 1)
        raise KeyboardInterrupt(said) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_on_dataflow(result: PipelineResult) -> str:
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException

    try:
        result.cancel()
        with contextlib.suppress(DataflowRuntimeException):  # that the job was cancelled
            result.wait_until_finish()
        return "the job was cancelled" if result.state == PipelineState.CANCELLED else "the job had ended"
    except KeyboardInterrupt:  # again
        return "the job is being cancelled"
    except Exception as error:  # of Google's clients
        return f"Dataflow does not answer ({last_line(error)}): the job goes on unless you cancel it, but publishes nothing"


class _OfMainThread:
    """A text stream that drops what other threads write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.current_thread() is threading.main_thread() else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _silence_threads() -> None:
    """Beam's threads wait for the engine, also after the job, and would print that it is gone. They may do so at any moment,
    and print line by line, so they must be silent before the terminal can be written to again."""
    threading.excepthook = lambda _: None
    logging.getLogger(_PRISM).disabled = True
    sys.stderr = cast(TextIO, _OfMainThread(sys.stderr))


@contextlib.contextmanager
def prepared(options: PipelineOptions, work: str, status_folder: str, debug: bool) -> Iterator[None]:
    """Starts and ends what the job needs around the body of the `with`, which runs it. `work` and `status_folder` are where
    the workers leave shards and reports. `debug`: nothing is silenced. Raises the errors of `job_server`."""
    flink = options.view_as(FlinkRunnerOptions)
    on_flink = options.view_as(StandardOptions).runner == "FlinkRunner"
    address = address_of(flink.flink_master) if on_flink else ""
    server = options.view_as(PortableOptions).job_endpoint or ""
    name = options.view_as(GoogleCloudOptions).job_name or ""
    with storage.writing(status_folder):
        storage.write_bytes(storage.join(status_folder, _OPEN), b"")
    with contextlib.ExitStack() as around:
        # What our lines do not say, Beam says on Dataflow only.
        quiet = not debug and not on_dataflow(options)
        terminal = around.enter_context(status.quiet_workers(quiet))
        if quiet:
            _silence_threads()
        if address:
            tasks = (
                f"{flink.parallelism} parallel tasks" if flink.parallelism > 0 else "the cluster's parallelism.default"
            )
            print(f"running as {name} on Flink at {address}, with {tasks}", file=terminal, flush=True)
        uploads_itself = flink.flink_submit_uber_jar and address
        if on_flink and not uploads_itself and not server:
            around.enter_context(job_server(options, debug))
        progress = Progress(work, status_folder, terminal, address, name)
        around.enter_context(progress.watched())
        try:
            yield
        except BaseException as error:
            # The job may go on although its server was lost. It must not publish after this command has failed.
            RemoteJob(name, address, server).end(seconds=0)
            if progress.failure and isinstance(error, Exception):
                raise progress.failure from error
            raise
