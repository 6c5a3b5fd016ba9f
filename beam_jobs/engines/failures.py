"""What the errors of engines mean: pages of Java and Python tracebacks -> one line."""

import re
from typing import NamedTuple

from schemas.errors import JobFailed, RadrecordsError, UsageError

_AGAIN = "nothing was published; run the same command again to continue"
_STEP = re.compile(r" \[while running '.*'\]$")  # what Beam adds to the error of a step
_OURS = re.compile(r"^(?:[\w.]+\.)?(UsageError|JobFailed): (.*)$", re.MULTILINE)  # raised by a worker
_NO_MESSAGE = re.compile(r"\s*(?:at |\.\.\. \d+ more|Driver stacktrace:|\[CIRCULAR|Suppressed:|[\])}\[({]*$)")


class Meaning(NamedTuple):
    """What happened, in words for the user, and what to do about it."""

    what: str
    advice: str


_NOT_STARTED = Meaning(
    "the workers did not start; is radrecords installed there?",
    "each machine with a TaskManager needs radrecords-worker on the PATH of the TaskManager",
)
_MEANINGS = {
    r"Insufficient number of network buffers": Meaning(
        "Flink has too few network buffers for this job",
        "set taskmanager.memory.network.min and taskmanager.memory.network.max to 128mb or more for each slot of a "
        "TaskManager, or lower --parallelism",
    ),
    # 137 and 143 are the exit codes of a process that was killed.
    r"Cannot run program|died with exit code (?!137|143)|SettableFuture|Timed out while waiting for command": _NOT_STARTED,
    r"StatusCode\.UNAVAILABLE": Meaning("Beam's job server was lost (killed, or out of memory)", ""),
    r"NoResourceAvailableException|Could not acquire the minimum required resources": Meaning(
        "Flink has too few free slots for this job",
        "start more TaskManagers, wait for other jobs, or lower --parallelism",
    ),
    r"no longer reachable|TaskExecutor is shutting down|closed by remote task manager|RemoteTransportException|"
    r"CANCELLED: |call already cancelled|UNAVAILABLE: Network closed|client disconnected": Meaning(
        "a TaskManager or a worker was lost (killed, or out of memory)",
        "let Flink try again: set restart-strategy.type to fixed-delay, with enough attempts",
    ),
}


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
    return failed(meaning_of(text) or Meaning(f"the job failed: {last_line(error)}", ""))


def failed(meaning: Meaning) -> JobFailed:
    """The error for users of a job that failed for this reason."""
    return JobFailed("; ".join(filter(None, (*meaning, _AGAIN))))


def meaning_of(text: str) -> Meaning | None:
    """What an engine's error means, if that is known."""
    return next((meaning for pattern, meaning in _MEANINGS.items() if re.search(pattern, text)), None)


def is_for_good(meaning: Meaning | None) -> bool:
    """Whether another attempt cannot mend it."""
    return meaning is _NOT_STARTED


def last_line(error: object) -> str:
    """The line of a runner's error that says what happened: the message of the last cause in a Java traceback, or the last
    line of a Python one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not _NO_MESSAGE.match(line)]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    last = (causes or lines or ["no message"])[-1]
    return f"{type(error).__name__}: {last}" if isinstance(error, Exception) and not causes else last
