"""What the errors of engines mean: pages of Java and Python tracebacks -> one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from schemas.errors import JobFailed, RadrecordsError, UsageError, one_line

_NOTHING = "nothing was published"
_AGAIN = f"{_NOTHING}; run the same command again to continue"
_MOST_OF_CAUSE = 200  # characters
_STEP = re.compile(r" \[while running '.*'\]$")  # what Beam adds to the error of a step
_PREFIX = re.compile(r"^Pipeline \S+ failed in state \w+: ")  # what Beam puts before the error of a job
_OURS = re.compile(r"^(?:[\w.]+\.)?(UsageError|JobFailed): (.*)$", re.MULTILINE)  # raised by a worker
_NO_MESSAGE = re.compile(r"\s*(?:at |\.\.\. \d+ more|Driver stacktrace:|\[CIRCULAR|Suppressed:|[\])}\[({]*$)")
# A Python traceback, with the line that ends it.
_PYTHON = re.compile(r"^.*Traceback \(most recent call last\):?\n(?:[ \t].*\n|\n)*(\S.*)$", re.MULTILINE)


class Meaning(NamedTuple):
    """What happened, in words for the user, and what to do about it."""

    what: str
    advice: str


_NOT_STARTED = Meaning(
    "the workers did not start; is radrecords installed there?",
    "each machine with a TaskManager needs radrecords-worker on the PATH of the TaskManager",
)
_NO_POOL = Meaning(
    "the workers did not start: no worker pool answers",
    "start one beside each TaskManager, at the address that --environment_config names",
)
_NO_CONTAINER = Meaning(
    "the workers' containers did not start",
    "each machine with a TaskManager needs Docker and the image; without them, omit --environment_type and the image",
)
_MEANINGS = {
    r"Insufficient number of network buffers": Meaning(
        "Flink has too few network buffers for this job",
        "set taskmanager.memory.network.min and taskmanager.memory.network.max to 128mb or more for each slot of a "
        "TaskManager, or lower --parallelism",
    ),
    # 137 and 143 are the exit codes of a process that was killed.
    r"Cannot run program|died with exit code (?!137|143)|SettableFuture|Timed out while waiting for command": _NOT_STARTED,
    r"ExternalEnvironmentFactory\.createEnvironment": _NO_POOL,
    r"DockerEnvironmentFactory\.createEnvironment|for command 'docker ": _NO_CONTAINER,
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


@contextmanager
def telling_that_nothing_was_published() -> Iterator[None]:
    """Adds that to an error for users which does not say so itself. Only for what comes before a job has published."""
    try:
        yield
    except RadrecordsError as error:
        if "published" in str(error):
            raise
        if isinstance(error, UsageError):
            raise UsageError(f"{error}; {_NOTHING}") from error
        raise JobFailed(f"{error}; {_AGAIN}") from error


def translated(error: Exception, here: bool) -> RadrecordsError:
    """The error for users that a runner's error stands for. A worker's own UsageError or JobFailed is kept as it is. `here`:
    the job ran on this machine."""
    text = str(error)
    if isinstance(error, RadrecordsError):
        return type(error)(_STEP.sub("", text))
    if here:
        return JobFailed(f"the job failed: {last_line(error)}")
    return of_worker(text) or failed(meaning_of(text) or Meaning(f"the job failed: {cause_of(text)}", ""))


def of_worker(text: str) -> RadrecordsError | None:
    """The error of ours that a worker raised, if an engine's error quotes one."""
    ours = _OURS.findall(text)
    if not ours:
        return None
    kind, message = ours[-1]
    message = _STEP.sub("", message.strip())
    return UsageError(message) if kind == "UsageError" else JobFailed(message)


def failed(meaning: Meaning) -> JobFailed:
    """The error for users of a job that failed for this reason."""
    what = one_line(meaning.what, _MOST_OF_CAUSE)  # what follows it must not be cut
    return JobFailed("; ".join(filter(None, (what, meaning.advice, _AGAIN))))


def meaning_of(text: str) -> Meaning | None:
    """What an engine's error means, if that is known."""
    return next((meaning for pattern, meaning in _MEANINGS.items() if re.search(pattern, text)), None)


def is_for_good(meaning: Meaning) -> bool:
    """Whether another attempt cannot mend it."""
    return meaning in (_NOT_STARTED, _NO_POOL, _NO_CONTAINER)


def cause_of(text: str) -> str:
    """The line of an engine's error that says what happened: the last one of a Python traceback, or else the message of the
    last cause in a Java traceback."""
    text = _PREFIX.sub("", text)
    python = _PYTHON.findall(text)
    if python:
        return _STEP.sub("", python[-1].strip())
    lines = _lines(text)
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or lines[:1] or ["no message"])[-1]


def last_line(error: Exception) -> str:
    """The kind of an error and the last line of its message: the traceback of a worker is before it."""
    return f"{type(error).__name__}: {(_lines(str(error)) or ['no message'])[-1]}"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not _NO_MESSAGE.match(line)]
