"""What the errors of engines mean: pages of Java and Python tracebacks -> one line."""

import re

from schemas.errors import JobFailed, RadrecordsError, UsageError

_AGAIN = "nothing was published; run the same command again to continue"
_STEP = re.compile(r" \[while running '.*'\]$")  # what Beam adds to the error of a step
_OURS = re.compile(r"^(?:[\w.]+\.)?(UsageError|JobFailed): (.*)$", re.MULTILINE)  # raised by a worker
_MEANINGS = (
    (
        r"Insufficient number of network buffers",
        "Flink has too few network buffers for this job: set taskmanager.memory.network.min and "
        "taskmanager.memory.network.max to at least 128mb for each slot of a TaskManager, or lower --parallelism",
    ),
    (
        r"Cannot run program|Process died with exit code|SettableFuture|Timed out while waiting for command|"
        r"error=2, No such file or directory",
        "the workers did not start; is radrecords installed there? Each machine of a TaskManager needs radrecords-worker on "
        "the TaskManager's PATH",
    ),
    (
        r"NoResourceAvailableException|Could not acquire the minimum required resources",
        "Flink has not enough free slots for this job: start more TaskManagers, wait for other jobs, or lower --parallelism",
    ),
    (
        r"Recovery is suppressed by|TaskManager with id .* is no longer reachable|The TaskExecutor is shutting down|"
        r"Connection unexpectedly closed by remote task manager|SDK [Hh]arness .*disconnected|"
        r"RemoteTransportException|call already cancelled|UNAVAILABLE: Network closed",
        "a TaskManager or a worker was lost (killed, or out of memory), and Flink's restart strategy allows no further "
        "attempt: set restart-strategy.type to fixed-delay, with enough attempts",
    ),
)
_NO_MESSAGE = re.compile(r"\s*(?:at |\.\.\. \d+ more|Driver stacktrace:|\[CIRCULAR|Suppressed:|[\])}\[({]*$)")


def translated(error: Exception, here: bool) -> RadrecordsError:
    """The error for users that a runner's error stands for. A worker's own UsageError or JobFailed is kept as it is. `here`:
    the job ran on this machine."""
    text = str(error)
    if isinstance(error, RadrecordsError):
        return type(error)(_STEP.sub("", text))
    if here:
        return JobFailed(f"the job failed: {last_line(error)}")
    ours = _OURS.findall(text)
    if ours:
        kind, message = ours[-1]
        message = _STEP.sub("", message)
        return UsageError(message) if kind == "UsageError" else JobFailed(message)
    return JobFailed(f"{_meaning(text) or f'the job failed: {last_line(error)}'}; {_AGAIN}")


def _meaning(text: str) -> str:
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, text):
            return meaning
    return ""


def last_line(error: BaseException) -> str:
    """The line of a runner's error that says what happened: the message of the first cause in a Java traceback, or the last
    line of a Python one."""
    lines = [line.strip() for line in str(error).splitlines() if not _NO_MESSAGE.match(line)]
    lines = [line for line in lines if line]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return f"{type(error).__name__}: {(causes or lines or ['no message'])[-1]}"
