"""What the errors of engines become. The texts are cut from real ones, of Flink 1.19.3 with Beam 2.62's job server."""

import pytest

from beam_jobs.engines.failures import last_line, telling_that_nothing_was_published, translated
from schemas.errors import JobFailed, UsageError, one_line

AGAIN = "; nothing was published; run the same command again to continue"

FAILED = "Pipeline radrecords-1_2 failed in state FAILED: "
IN_A_WORKER = f"""{FAILED}java.lang.RuntimeException: Error received from SDK harness: Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/beam_jobs/plan/plan.py", line 85, in make_plan
    raise UsageError(f"{{given}} has images of only one class")
schemas.errors.UsageError: /data has images of only one class ('NORMAL'); add the others [while running 'Plan/MakePlan']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient$ResponseStreamObserver.onNext(Fn.java:180)
\t... 1 more

Driver stacktrace:
]"""

NO_WORKER = f"""{FAILED}java.io.IOException: Cannot run program "radrecords-worker": error=2, No such file or directory
\tat java.base/java.lang.ProcessBuilder.start(ProcessBuilder.java:1143)
Caused by: java.io.IOException: error=2, No such file or directory
\t... 18 more
"""
BUFFERS = (
    f"{FAILED}java.io.IOException: Insufficient number of network buffers: required 512, but only 474 available. "
    "The total number of network buffers is currently set to 4096 of 32768 bytes each."
)
UNKNOWN = f"""{FAILED}org.apache.flink.runtime.JobException: something
\tat org.apache.flink.runtime.executiongraph.Execution.fail(Execution.java:1)
Caused by: java.lang.IllegalStateException: the reason
\tat java.base/java.lang.Thread.run(Thread.java:840)
\t... 5 more

Driver stacktrace:
]"""


def test_a_workers_own_error_is_kept_with_its_exit_code() -> None:
    error = translated(RuntimeError(IN_A_WORKER), here=False)
    assert type(error) is UsageError
    assert str(error) == "/data has images of only one class ('NORMAL'); add the others"
    error = translated(RuntimeError(IN_A_WORKER.replace("errors.UsageError", "errors.JobFailed")), here=False)
    assert type(error) is JobFailed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NO_WORKER, "the workers did not start; is radrecords installed there?"),
        ("java.lang.IllegalStateException: Process died with exit code 1", "the workers did not start"),
        ("java.lang.IllegalStateException: Process died with exit code 137", "the job failed: "),
        (
            f"{FAILED}java.io.IOException: exit code 125 for command 'docker run -d'",
            "the workers' containers did not start",
        ),
        (f"{FAILED}java.net.ConnectException: refused", "the job failed: java.net.ConnectException: refused"),
        (BUFFERS, "Flink has too few network buffers for this job; set taskmanager.memory.network.min"),
        ("NoResourceAvailableException: Could not acquire the minimum", "Flink has too few free slots for this job"),
        ("TaskManager with id 127.0.0.1:4 is no longer reachable.", "a TaskManager or a worker was lost"),
        (
            "org.apache.beam.vendor.grpc.StatusRuntimeException: CANCELLED: client cancelled",
            "a TaskManager or a worker was",
        ),
        (UNKNOWN, "the job failed: java.lang.IllegalStateException: the reason"),
    ],
)
def test_an_engines_error_becomes_one_line_that_says_how_to_go_on(text: str, says: str) -> None:
    error = translated(RuntimeError(text), here=False)
    assert type(error) is JobFailed
    assert str(error).startswith(says)
    assert str(error).endswith(AGAIN)
    assert "Driver stacktrace" not in str(error)


def test_a_long_cause_leaves_room_for_how_to_go_on() -> None:
    error = translated(RuntimeError(f"{FAILED}java.lang.Exception: {'word ' * 500}"), here=False)
    assert one_line(str(error)).startswith("the job failed: java.lang.Exception: word word")
    assert one_line(str(error)).endswith(AGAIN)


def test_an_error_in_python_is_named_by_its_last_line() -> None:
    text = IN_A_WORKER.replace("schemas.errors.UsageError", "ValueError")
    said = str(translated(RuntimeError(text), here=False))
    assert said == (f"the job failed: ValueError: /data has images of only one class ('NORMAL'); add the others{AGAIN}")


def test_the_error_of_a_local_run_ends_with_its_last_line() -> None:
    error = translated(ValueError("Traceback\n  File\nKeyError: 'x' [while running 'Plan']"), here=True)
    assert str(error) == "the job failed: ValueError: KeyError: 'x' [while running 'Plan']"
    assert str(translated(JobFailed("no disk [while running 'Write']"), here=True)) == "no disk"
    assert last_line(ValueError("")) == "ValueError: no message"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UsageError("no images were found"), UsageError("no images were found; nothing was published")),
        (JobFailed("the disk is full"), JobFailed(f"the disk is full{AGAIN}")),
        (JobFailed("3 of 9 were rejected. Nothing was published"), None),
        (ValueError("unexpected"), None),
    ],
)
def test_every_error_of_a_job_elsewhere_tells_what_was_published(error: Exception, told: Exception | None) -> None:
    with pytest.raises(type(error)) as raised, telling_that_nothing_was_published():
        raise error
    assert str(raised.value) == str(told or error)
