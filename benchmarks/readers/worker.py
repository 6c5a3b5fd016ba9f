"""A process that reads as it is told: `python -m benchmarks.readers.worker MODULE`, started by benchmarks.reading.

The module has WAYS, PACKAGES (whose versions are reported) and prepare(data), which writes the formats that it needs. A
question is a line of JSON on stdin, and its answer one on stdout.
"""

import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.readers.way import Contents, Data, Way

_IDLE = 0.05  # seconds of CPU time per second that a process without work takes at most


def main() -> None:
    """Answers questions until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print on stdout too
    module = importlib.import_module(sys.argv[1])
    ways: dict[str, Way] = {way.name: way for way in module.WAYS}
    for data, question in _questions():
        if "way" in question:
            answer = _read(ways[question.pop("way")], data, **question)
        else:
            module.prepare(data)
            versions = {package: importlib.metadata.version(package) for package in module.PACKAGES}
            answer = {"ways": {way.name: (way.on_disk, way.in_bucket) for way in module.WAYS}, "versions": versions}
        print(json.dumps(answer), file=answers)


def _questions() -> Iterator[tuple[Data, dict[str, Any]]]:
    for line in sys.stdin:
        question = json.loads(line)
        data = question.pop("data")
        yield Data(**{**data, "shape": tuple(data["shape"])}), question


def _read(way: Way, data: Data, folder: str, batch: int, checked: bool) -> dict[str, Any]:
    """Seconds and number of examples of two epochs and, if `checked`, their contents. The first epoch includes what the way
    does before its first batch."""
    seconds: list[float] = []
    examples: list[int] = []
    contents: list[dict[str, Any]] = []
    start = time.perf_counter()
    counts = _checked(way, data, folder, batch, contents) if checked else way.counts(data, folder, batch)
    for _ in range(2):
        examples.append(next(counts))
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    del counts
    _settle()
    return {"seconds": seconds, "examples": examples, **({"contents": contents} if checked else {})}


def _checked(way: Way, data: Data, folder: str, batch: int, contents: list[dict[str, Any]]) -> Iterator[int]:
    """As way.counts, and adds the contents of each epoch to `contents`."""
    for epoch in way.epochs(data, folder, batch):
        found = Contents()
        for part in epoch:
            found.add(*way.arrays(part, data))
        contents.append(found.as_json())
        yield found.examples


def _settle() -> None:
    """Waits until nothing is read ahead any more, so that the next way has the machine for itself."""
    gc.collect()
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.05)
        if time.process_time() - before < 0.05 * _IDLE:
            return


if __name__ == "__main__":
    main()
