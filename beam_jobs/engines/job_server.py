"""Beam's job server for Flink, a Java program beside the launcher: started, watched and ended here.

Beam's own code starts it too, but ends it on an interrupt before the job can be cancelled, and leaves it running if the
launcher is killed.
"""

import collections
import contextlib
import copy
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import grpc
from apache_beam.options.pipeline_options import FlinkRunnerOptions, JobServerOptions, PipelineOptions, PortableOptions
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

from beam_jobs.engines import flink_rest
from schemas.errors import JobFailed, UsageError, one_line

_START_SECONDS = 120
_END_SECONDS = 5
_LINES = 100  # of its output that are kept, to say why it did not start
_QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # of a program that only hands over one job
_PR_SET_PDEATHSIG = 1  # of prctl(2)


@contextlib.contextmanager
def job_server(options: PipelineOptions, debug: bool) -> Iterator[None]:
    """Runs the job server during the body of the `with`, and puts its address into the options. `debug`: its log lines go to
    stderr. Raises UsageError without Java or the server's jar, and JobFailed if it does not start."""
    java = options.view_as(JobServerOptions).job_server_java_launcher
    if not shutil.which(java):
        raise UsageError(
            f"--runner=FlinkRunner needs Java on this machine, and {java!r} is not on its PATH; install Java 11 "
            "or 17, or give --job_endpoint of a job server elsewhere"
        )
    with tempfile.TemporaryDirectory(prefix="job-server-") as folder:
        process = _begun(options, folder)
        try:
            said = _drained(process, debug)
            address = options.view_as(PortableOptions).job_endpoint
            _wait_until_ready(process, str(address), said)
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
            process.kill()
            process.wait()


def _begun(options: PipelineOptions, folder: str) -> "subprocess.Popen[str]":
    own = copy.deepcopy(options)  # the options of the job name no folder of this machine
    server = own.view_as(JobServerOptions)
    server.artifacts_dir = server.artifacts_dir or os.path.join(folder, "artifacts")
    quick = () if _runs_the_job(options) else _QUICK_START
    server.job_server_jvm_properties = [f"-Djava.io.tmpdir={folder}", *quick, *(server.job_server_jvm_properties or ())]
    try:
        words, address = FlinkJarJobServer(own).subprocess_cmd_and_endpoint()
    except Exception as error:  # of several kinds, some of them plain Exceptions
        raise UsageError(
            f"Beam's job server for Flink cannot be had: {one_line(str(error), 200)}; download it from Maven Central and "
            "give its path as --flink_job_server_jar"
        ) from error
    options.view_as(PortableOptions).job_endpoint = address
    return subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # an interrupt at the terminal is for the launcher alone
        preexec_fn=_end_with_launcher if sys.platform == "linux" else None,
    )


def _runs_the_job(options: PipelineOptions) -> bool:
    return not flink_rest.address_of(options.view_as(FlinkRunnerOptions).flink_master)


def _end_with_launcher() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _drained(process: "subprocess.Popen[str]", debug: bool) -> "collections.deque[str]":
    """The last lines that the process has printed, as they come."""
    lines: collections.deque[str] = collections.deque(maxlen=_LINES)

    def drain() -> None:
        for line in process.stdout or ():
            lines.append(line.strip())
            if debug:
                sys.stderr.write(line)

    threading.Thread(target=drain, daemon=True).start()
    return lines


def _wait_until_ready(process: "subprocess.Popen[str]", address: str, said: "collections.deque[str]") -> None:
    with grpc.insecure_channel(address) as channel:
        ready = grpc.channel_ready_future(channel)
        for _ in range(_START_SECONDS):
            try:
                ready.result(timeout=1)
                return
            except grpc.FutureTimeoutError:
                if process.poll() is not None:
                    break
    ended = "was not ready in time" if process.poll() is None else f"ended with exit code {process.returncode}"
    last = next((line for line in reversed(said) if line and not line.startswith("at ")), "it printed nothing")
    raise JobFailed(f"Beam's job server for Flink {ended}: {last}")
