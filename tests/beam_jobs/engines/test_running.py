"""What surrounds a job on another engine: an interrupt of one on Dataflow, with Beam's own result of a job, of which only
Google's service is replaced; and silence."""

import contextlib
import io
import os
import signal
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

from beam_jobs.engines.running import cancelling_on_dataflow, prepared
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


def test_threads_that_fail_during_the_job_print_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A thread prints its traceback line by line, so the end of it would reach the terminal if the job ended meanwhile.
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    options = PipelineOptions(["--runner=PrismRunner"])
    printed = io.StringIO()
    with prepared(options, str(tmp_path), str(tmp_path / "status"), debug=False), contextlib.redirect_stderr(printed):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert printed.getvalue() == ""
