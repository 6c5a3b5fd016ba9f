"""A process of benchmarks.training: reads epochs of parts of a split and watches the memory. Prints JSON. Linux only.

`python -m benchmarks.trainers.memory FOLDER BATCH EPOCHS SHARDS...`. For each of SHARDS, that many shards are read in a new
process, which is forked from this one after TensorFlow is loaded, and before it has started any thread.
"""

import itertools
import json
import multiprocessing
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_bytes
from training.reading.array_batches import steps
from training.reading.input_pipeline import Order, batches
from training.reading.records import open_dataset, open_split

_SAMPLE_SECONDS = 0.1


def main() -> None:
    folder, batch, epochs, *counts = sys.argv[1], *map(int, sys.argv[2:])
    found = []
    for shards in counts:
        with multiprocessing.get_context("fork").Pool(1) as one:
            found.append(one.apply(read, (folder, shards, batch, epochs)))
    print(json.dumps(found))


def read(folder: str, shards: int, batch: int, epochs: int) -> dict[str, Any]:
    """Reads the first `shards` shards of the split train. Gives their size, the resident memory before, the peak in each
    epoch, all in bytes, and samples of it as (seconds, bytes)."""
    split = open_split(folder, open_dataset(folder), "train")
    split = replace(split, shards=split.shards[:shards])
    samples: list[tuple[float, int]] = []
    threading.Thread(target=_watch, args=(samples,), daemon=True).start()
    before, peaks, examples = resident_bytes(), [], []
    endless = iter(batches(split, batch, Order(0)))
    for _ in range(epochs):
        _forget_peak()
        examples.append(sum(len(images) for images, _ in itertools.islice(endless, steps(split, batch))))
        peaks.append(peak_bytes(os.getpid()))
    assert examples == [split.examples] * epochs, examples
    size = sum(shard.bytes for shard in split.shards)
    return {"bytes": size, "before": before, "peaks": peaks, "samples": samples}


def resident_bytes() -> int:
    """The resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _forget_peak() -> None:
    """Lets the peak be counted from now on (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _watch(samples: list[tuple[float, int]]) -> None:
    start = time.monotonic()
    while True:
        samples.append((round(time.monotonic() - start, 2), resident_bytes()))
        time.sleep(_SAMPLE_SECONDS)


if __name__ == "__main__":
    main()
