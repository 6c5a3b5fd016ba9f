"""What workers report to the launcher: why the job failed, what was planned, and the progress.

Beam's runners have no common channel for this, so reports are small files in a folder that both sides can reach: next
to the shards on a remote runner, or a temporary folder if the workers run on this machine. Progress is reported locally
only.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from beam_jobs.storage import storage
from schemas.errors import JobFailed, RadrecordsError, UsageError

_FAILURE, _PLAN, _DONE = "failure.json", "plan.json", "done"
_POLL_SECONDS = 0.2


@contextlib.contextmanager
def failures(folder: str, to_launcher: bool = False) -> Iterator[None]:
    """Records an error for users, then lets it fail the job. `to_launcher`: only records it, because nothing follows in the
    job, and the launcher fails then: Beam's engine on this machine forgets the counters of a job that fails."""
    try:
        yield
    except RadrecordsError as error:
        content = {"message": str(error), "exit_code": error.exit_code}
        # Without the folder, the launcher is gone, and its folder must not be created again.
        recorded = storage.has_folder(folder)
        if recorded:
            storage.write_bytes(storage.join(folder, _FAILURE), json.dumps(content).encode())
        if not (recorded and to_launcher):
            raise


def read_failure(folder: str) -> RadrecordsError | None:
    """The error that a worker recorded in `folder`, if any did."""
    try:
        content = json.loads(storage.read_bytes(storage.join(folder, _FAILURE)))
    except FileNotFoundError:
        return None
    kind = UsageError if content["exit_code"] == UsageError.exit_code else JobFailed
    return kind(content["message"])


def write_plan(folder: str, plan: dict[str, Any]) -> None:
    """Reports the plan to the launcher."""
    storage.write_bytes(storage.join(folder, _PLAN), json.dumps(plan).encode())


def read_plan(folder: str) -> dict[str, Any] | None:
    """The plan that a worker reported, or None if there is none yet."""
    try:
        plan: dict[str, Any] = json.loads(storage.read_bytes(storage.join(folder, _PLAN)))
    except FileNotFoundError:
        return None
    return plan


def count_done(folder: str, images: int) -> None:
    """Adds to the number of images done. Appending is atomic, so the workers of one machine share the file."""
    if images and not storage.is_shared(folder):
        with open(os.path.join(folder, _DONE), "ab", buffering=0) as file:
            file.write(b"." * images)


@contextlib.contextmanager
def quiet_workers(quiet: bool) -> Iterator[TextIO]:
    """Hides what Beam's workers print to stderr (tracebacks of an error that is reported in one line), and what image
    libraries (libtiff) print. Yields the stream that still reaches the terminal."""
    if not quiet:
        yield sys.stderr
        return
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError):  # not a file: a test captures it
        captured = sys.stderr
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            yield captured
        return
    terminal = os.fdopen(os.dup(descriptor), "w")
    with terminal, open(os.devnull, "w") as nowhere:
        sys.stderr.flush()
        os.dup2(nowhere.fileno(), descriptor)  # for worker processes and C libraries too
        try:
            yield terminal
        finally:
            sys.stderr.flush()
            os.dup2(terminal.fileno(), descriptor)


class ProgressBar:
    """A progress bar of images on `terminal`, fed from `folder` while the body of the `with` runs. Local runs only. `doing`:
    what is done with them."""

    def __init__(self, folder: str, terminal: TextIO, doing: str = "converting") -> None:
        self._folder = folder
        self._doing = doing
        self._terminal = terminal
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while (plan := read_plan(self._folder)) is None:
            if self._stop.wait(_POLL_SECONDS):
                return
        total = sum(sum(labels.values()) for labels in plan["counts"].values())
        done = os.path.join(self._folder, _DONE)
        with tqdm(total=total, desc=self._doing, unit=" images", dynamic_ncols=True, file=self._terminal) as bar:
            stopping = False
            while not stopping:
                stopping = self._stop.wait(_POLL_SECONDS)
                if os.path.exists(done):
                    bar.update(os.path.getsize(done) - bar.n)
