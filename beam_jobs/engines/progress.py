"""What the launcher says, and does, while a job runs on another engine: a line now and then, and an early end.

It reads what the workers leave in the work folder, so it needs nothing of the engine.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from beam_jobs.engines import flink_rest
from beam_jobs.passing import status
from beam_jobs.storage import storage
from schemas.errors import RadrecordsError, one_line
from schemas.shard_name import ShardName

_LOOK_SECONDS = 2
_LINE_SECONDS = 15  # between two lines about the same thing
_SHARE = 20  # a look at a large folder is followed by a pause of this many times its length


@dataclass
class Progress:
    """Watches one job: the folder `work` of its shards, the `status_folder`, and Flink at `flink` ("" for other engines),
    where the job has the name `job`. Writes to `terminal`."""

    work: str
    status_folder: str
    terminal: TextIO
    flink: str = ""
    job: str = ""
    _plan: dict[str, Any] | None = None
    _said: tuple[int, float] = (0, 0.0)
    _restarts: int = 0
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
        pause = float(_LOOK_SECONDS)
        while not self._stop.wait(pause):
            begun = time.monotonic()
            # A disk or a bucket that cannot be read now fails the job itself, if that lasts.
            with contextlib.suppress(RadrecordsError, OSError):
                self.look()
            pause = max(_LOOK_SECONDS, _SHARE * (time.monotonic() - begun))

    def look(self) -> None:
        """Says what is new. Cancels the job if it has failed for good: Flink would repeat the failing step a few times."""
        if self.flink and status.read_failure(self.status_folder, final=True):
            job = flink_rest.job_named(self.flink, self.job)
            if job and job.state not in flink_rest.ENDED:
                flink_rest.cancel(self.flink, job.id)
            return
        if self._plan is None:
            self._plan = status.read_plan(self.status_folder)
            if self._plan:
                self._say(f"planned: {self._images():,} images in {self._shards():,} shards")
        else:
            self._say_shards()
        if self.flink:
            self._say_restarts()

    def _say_shards(self) -> None:
        before, then = self._said
        if time.monotonic() - then < _LINE_SECONDS:
            return
        done, total = len(finished_shards(self.work)), self._shards()
        if done > before:
            images = self._images() * done // total
            self._say(f"converted: {done:,} of {total:,} shards (about {images:,} of {self._images():,} images)")
            self._said = done, time.monotonic()

    def _say_restarts(self) -> None:
        job = flink_rest.job_named(self.flink, self.job)
        if job is None:
            return
        number, trace = flink_rest.why_restarted(self.flink, job.id)
        if number > self._restarts and job.state not in flink_rest.ENDED:
            self._restarts = number
            why = one_line(trace.splitlines()[0] if trace else "unknown", 200)
            self._say(f"warning: Flink repeats a part of the job, because of {why}")

    def _say(self, line: str) -> None:
        print(line, file=self.terminal, flush=True)

    def _images(self) -> int:
        return sum(sum(labels.values()) for labels in (self._plan or {})["counts"].values())

    def _shards(self) -> int:
        return sum((self._plan or {})["shards"].values())


def finished_shards(work: str) -> set[str]:
    """The names of the shards that are marked as finished in the folder `work`."""
    files = (file.path for file in storage.list_files(work, work, recursive=False) if file.path.endswith(".json"))
    return {str(name) for name in map(ShardName.parse, files) if name}
