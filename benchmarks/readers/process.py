"""The side of benchmarks.reading that asks a worker process."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from benchmarks.readers.way import Data

ROOT = Path(__file__).parent.parent.parent


class Reader:
    """A running worker. After `prepare`, `ways` says of each way whether it reads from the
    local disk and from a bucket, and `versions` holds those
    of its packages."""

    def __init__(self, module: str, process: "subprocess.Popen[str]", log: IO[str]) -> None:
        self._module, self._process, self._log = module, process, log
        self.ways: dict[str, tuple[bool, bool]] = {}
        self.versions: dict[str, str] = {}

    def prepare(self, data: Data) -> None:
        """Lets the worker write the formats that it reads."""
        answer = self.ask(data)
        self.ways, self.versions = answer["ways"], answer["versions"]

    def ask(self, data: Data, **question: Any) -> dict[str, Any]:
        """The answer to a question. Ends this program with the worker's log if the worker has ended."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"data": asdict(data), **question}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"error: {self._module} ended while it read {question}:\n{self._log.read()[-5000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def reader(python: Path, module: str, environment: Mapping[str, str]) -> Iterator[Reader]:
    """Starts a worker with this module of benchmarks.readers, and ends it afterwards by closing its stdin."""
    command = [str(python), "-m", "benchmarks.readers.worker", f"benchmarks.readers.{module}"]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        yield Reader(module, process, log)
