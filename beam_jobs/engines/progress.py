"""What the launcher says, and does, while a job runs on another engine: a line now and then, and an early end.

It reads what the workers leave in the work folder, so it needs nothing of the engine.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from beam_jobs.engines import failures, flink_rest
from beam_jobs.passing import status
from beam_jobs.storage import storage
from schemas.errors import RadrecordsError, one_line
from schemas.shard_name import ScoresName, ShardName

_LOOK_SECONDS = 2
_LINE_SECONDS = 15  # between two lines about shards
_SHARE = 20  # listing a large folder is followed by a pause of this many times its length


@dataclass
class Progress:
    """Watches one job: the folder `work` of its shards, the `status_folder`, and Flink at `flink` ("" for other engines),
    where the job has the name `job`. Writes to `terminal`. `failure`: why this object has cancelled the job, if it has."""

    work: str
    status_folder: str
    terminal: TextIO
    flink: str = ""
    job: str = ""
    _plan: dict[str, Any] | None = None
    _done: int = 0
    _next_line: float = 0.0
    _restarts: int = 0
    failure: RadrecordsError | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watches the job during the body of the `with`."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            # A disk or a bucket that cannot be read now fails the job itself, if that lasts.
            with contextlib.suppress(RadrecordsError, OSError):
                self.look()

    def look(self) -> None:
        """Says what is new. Ends a job that has failed for good: Flink would repeat the step a few times, with the same
        result."""
        if self.flink:
            job = flink_rest.job_named(self.flink, self.job)
            if job and job.state not in flink_rest.ENDED:
                self._look_at_restarts(job)
                # A worker has said why it failed, or no worker starts.
                if self.failure or status.read_failure(self.status_folder):
                    flink_rest.cancel(self.flink, job.id)
                    return
        if self._plan is None:
            self._plan = status.read_plan(self.status_folder)
            if self._plan:
                self._say(f"planned: {self._images():,} images in {self._shards():,} shards")
        else:
            self._say_shards()

    def _say_shards(self) -> None:
        if time.monotonic() < self._next_line:
            return
        begun = time.monotonic()
        done, total = len(finished_shards(self.work)), self._shards()
        if done > self._done:
            images = self._images() * done // total
            self._say(f"finished: {done:,} of {total:,} shards (about {images:,} of {self._images():,} images)")
        self._done = done
        self._next_line = time.monotonic() + max(_LINE_SECONDS, _SHARE * (time.monotonic() - begun))

    def _look_at_restarts(self, job: flink_rest.Job) -> None:
        number, trace = flink_rest.why_restarted(self.flink, job.id)
        if number == self._restarts:
            return
        self._restarts = number
        meaning = failures.meaning_of(trace)
        self.failure = failures.of_worker(trace)
        if number > 1 and meaning and failures.is_for_good(meaning):
            self.failure = failures.failed(meaning)
        if self.failure:
            return
        what = meaning.what if meaning else one_line(failures.cause_of(trace), 200)
        self._say(f"warning: {what}; Flink repeats a part of the job")

    def _say(self, line: str) -> None:
        print(line, file=self.terminal, flush=True)

    def _images(self) -> int:
        return sum(sum(labels.values()) for labels in (self._plan or {})["counts"].values())

    def _shards(self) -> int:
        return sum((self._plan or {})["shards"].values())


def finished_shards(work: str) -> set[str]:
    """The names of the shards that are marked as finished in the folder `work`."""
    files = (file.path for file in storage.list_files(work, work, recursive=False) if file.path.endswith(".json"))
    return {str(name) for file in files if (name := ShardName.parse(file) or ScoresName.parse(file))}
