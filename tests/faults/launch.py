"""Conversions in processes of their own, and what they leave behind."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Result, files_of
from tests.gcs.bucket import Bucket

FLAGS = ("--shards", "6")
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")

_PATIENCE_SECONDS = 120  # a conversion that takes longer counts as hanging


@dataclass(frozen=True)
class Place:
    """A folder, local or in a bucket."""

    uri: str
    bucket: Bucket | None = None

    def names(self) -> list[str]:
        """The relative names of all files below it."""
        if self.bucket is None:
            return sorted(p.relative_to(self.uri).as_posix() for p in Path(self.uri).rglob("*") if p.is_file())
        prefix = self.uri.removeprefix(f"{self.bucket.uri}/") + "/"
        return [name.removeprefix(prefix) for name in self.bucket.names() if name.startswith(prefix)]

    def files(self) -> dict[str, bytes]:
        """Relative name -> content of all files below it."""
        if self.bucket is None:
            return files_of(Path(self.uri))
        return {name: self.read(name) for name in self.names()}

    def read(self, name: str) -> bytes:
        """The content of one file."""
        if self.bucket is None:
            return Path(self.uri, name).read_bytes()
        return self.bucket.read(self.uri.removeprefix(f"{self.bucket.uri}/") + f"/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Replaces one file."""
        if self.bucket is None:
            Path(self.uri, name).write_bytes(content)
        else:
            self.bucket.write({self.uri.removeprefix(f"{self.bucket.uri}/") + f"/{name}": content})


@dataclass(frozen=True)
class Launch:
    """A running conversion, in a session of its own so that all of its processes can be found."""

    process: "subprocess.Popen[bytes]"
    log: Path


def start(
    source: Path,
    output: object,
    *flags: str,
    before: Sequence[str] = (),
    prepare: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Launch:
    """Starts `python -m beam_jobs.convert`, after the words in `before`. The new process calls `prepare` first."""
    handle, log = tempfile.mkstemp(dir=source.parent, prefix="log-")
    words = [*before, sys.executable, "-m", "beam_jobs.convert", "--input", str(source), "--output", str(output)]
    with os.fdopen(handle, "w") as file:
        process = subprocess.Popen(
            [*words, *FLAGS, *flags],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
            env={**os.environ, **(environment or {})},
        )
    return Launch(process, Path(log))


def finish(launch: Launch) -> Result:
    """Waits for the conversion and for each of its processes."""
    code = launch.process.wait(_PATIENCE_SECONDS)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while left := processes(launch):
        assert time.monotonic() < deadline, f"processes {left} were left running"
        time.sleep(0.05)
    text = launch.log.read_text()
    return Result(code, text, "\n".join(line for line in text.splitlines() if line.startswith("error: ")))


def processes(launch: Launch) -> list[int]:
    """The ids of the conversion's processes that are still running, the launcher's first."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,sid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return sorted(int(pid) for pid, sid, state in rows if int(sid) == launch.process.pid and state[0] != "Z")
