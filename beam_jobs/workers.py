"""Worker processes on this machine (--direct_running_mode=multi_processing) that end with the launcher, and it with them.

Beam starts them, and two things go wrong when one side is killed before they are connected: workers look for a launcher
that is gone, and the launcher waits for a worker that is gone, both for ever.

    python -m beam_jobs.workers LAUNCHER_PID FOLDER     is such a worker; only Beam's runner starts it
"""

import contextlib
import functools
import os
import shlex
import sys
import threading
import time
from pathlib import Path
from typing import Any

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler, WorkerHandler
from apache_beam.transforms.environments import SubprocessSDKEnvironment

_LOST = "worker-lost"  # the file in FOLDER that ends all workers
_POLL_SECONDS = 0.2


class WorkerLost(Exception):
    """A worker process ended before its work did."""


def process_runner(folder: str) -> FnApiRunner:
    """Beam's local runner, with worker processes that are watched. `folder` is local and lives as long as the job."""
    WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(functools.partial(_WatchedHandler, folder))
    # "exec": the shell that Beam puts between would hide the launcher's end from the worker.
    command = ["exec", sys.executable, "-m", "beam_jobs.workers", str(os.getpid()), folder]
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(shlex.join(command)))


class _WatchedHandler(SubprocessSdkWorkerHandler):  # type: ignore[misc]
    """The launcher's side of one worker process: where it ends too early, whatever waits for it fails."""

    def __init__(self, folder: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._folder = folder
        self._closing = False

    def start_worker(self) -> None:
        super().start_worker()
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        self._closing = True
        super().close()

    def _watch(self) -> None:
        self.worker_thread.join()
        if self._closing:
            return
        Path(self._folder, _LOST).touch()
        with contextlib.suppress(Exception):  # it raises what broke the connection, where that was noticed already
            self.data_conn.close()  # fails who waits for output
        while not self._closing:
            with contextlib.suppress(RuntimeError):  # the runner added a request at that moment: it is told next time
                self.control_conn.abort(WorkerLost("a worker process died"))
            time.sleep(_POLL_SECONDS)


def lost(folder: str) -> bool:
    """Whether a worker process ended before its work did."""
    return Path(folder, _LOST).exists()


def _end_with_launcher(launcher: int, folder: str) -> None:
    while os.getppid() == launcher and not Path(folder, _LOST).exists():
        time.sleep(_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_launcher, args=(int(sys.argv[1]), sys.argv[2]), daemon=True).start()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
