"""What surrounds a job on another engine: an interrupt of one on Dataflow, with Beam's own result of a job, of which only
Google's service is replaced; and silence."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

pytest.importorskip("google.cloud.dataflow_v1beta3", reason="Dataflow needs it")

from apache_beam.runners.dataflow import dataflow_runner
from google.cloud.dataflow_v1beta3 import JobState

from beam_jobs.engines.running import cancelling_on_dataflow
from beam_jobs.settings.config import ConvertConfig


class Service:
    """What Dataflow's API says of one job. `cancelled`: the state of the job once it is told to cancel it; None: it does not
    answer to that."""

    last_error_msg = None

    def __init__(self, cancelled: Any) -> None:
        self.dataflow_client = self  # Beam asks its runner for the client
        self._state, self._cancelled = JobState.JOB_STATE_RUNNING, cancelled

    def get_job(self, job_id: str) -> Any:
        return SimpleNamespace(id=job_id, current_state=self._state)

    def modify_job_state(self, _: str, state: str) -> bool:
        assert state == "JOB_STATE_CANCELLED"
        self._state = self._cancelled or JobState.JOB_STATE_DONE  # the thread in which Beam asks ends
        if self._cancelled is None:
            raise ConnectionError("no route to host")
        return True

    def list_messages(self, *_: object, **__: object) -> tuple[list[Any], None]:
        return [], None


def interrupted_while_waiting(result: Any, number: signal.Signals) -> None:
    """Waits for the job, and gets the signal after a moment."""
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    result.wait_until_finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("cancelled", "says"),
    [
        (JobState.JOB_STATE_CANCELLED, "the job was cancelled"),
        (JobState.JOB_STATE_DONE, "the job had ended"),
        (
            None,
            "Dataflow does not answer (ConnectionError: no route to host): the job goes on unless you cancel it, but "
            "publishes nothing",
        ),
    ],
)
def test_an_interrupt_cancels_the_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, cancelled: Any, says: str
) -> None:
    sleep = time.sleep
    shorter = SimpleNamespace(sleep=lambda seconds: sleep(seconds / 50), time=time.time)
    monkeypatch.setattr(dataflow_runner, "time", shorter)
    service = Service(cancelled)
    options = PipelineOptions(["--project=p", "--region=r"])
    result = dataflow_runner.DataflowPipelineResult(service.get_job("job-1"), service, options)
    before = signal.getsignal(signal.SIGTERM)
    config = ConvertConfig(input=str(tmp_path / "raw"), output=str(tmp_path / "out"))
    with pytest.raises(KeyboardInterrupt) as raised, cancelling_on_dataflow(result, config):
        interrupted_while_waiting(result, number)
    nothing = "nothing was published; run the same command again to continue"
    assert str(raised.value) == f"interrupted; {says}; {nothing}"
    assert signal.getsignal(signal.SIGTERM) == before


def test_threads_that_outlive_the_job_print_nothing(tmp_path: Path) -> None:
    script = """
import sys, threading
from apache_beam.options.pipeline_options import PipelineOptions
from beam_jobs.engines.running import prepared

def outlive():
    ended.wait()
    print("a thread", file=sys.stderr)
    1 / 0

ended = threading.Event()
thread = threading.Thread(target=outlive)
with prepared(PipelineOptions(["--runner=PrismRunner"]), sys.argv[1], sys.argv[1] + "/status", debug=False):
    thread.start()
ended.set()
thread.join()
print("the end", file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stderr == "the end\n"
