"""Workers in processes of their own, as a machine of a cluster has them: Beam's worker pool."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_START_SECONDS = 120


@contextlib.contextmanager
def worker_pool(python: Path, before: Sequence[str] = (), **variables: str) -> Iterator[list[str]]:
    """Beam's flags for workers that run this Python, with these variables, started by the command `before`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join((str(python.parent), os.environ["PATH"]))
    environment = {**os.environ, "PYTHONPATH": "", "PATH": path, **variables}
    command = [*before, str(python), "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    with subprocess.Popen(
        command,
        env=environment,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as pool:
        try:
            _wait_for(port, pool)
            yield [
                *("--runner=PortableRunner", "--job_endpoint=embed"),
                *("--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"),
            ]
        finally:
            os.killpg(pool.pid, signal.SIGKILL)  # with the workers that it has started


def _wait_for(port: int, pool: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    while pool.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise RuntimeError("the worker pool does not start")
