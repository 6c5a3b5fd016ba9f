"""A process that reads a data set from a bucket as training does: `python -m benchmarks.readers.bucket_worker`, started by
benchmarks.bucket_epochs. The client is that of KERAS_BACKEND.

A line of JSON in, one out: {"folder", "batch", "epochs", "work"} -> {"seconds": of each epoch after its first batch,
"crc32c": of all batches in their order}.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import google_crc32c

from training.loading import quiet_loading
from training.reading.array_batches import numpy_batches, steps
from training.reading.records import Split, open_dataset, open_split


def main() -> None:
    """Answers questions until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print on stdout too
    for line in sys.stdin:
        print(json.dumps(_read(**json.loads(line))), file=answers)


def _read(folder: str, batch: int, epochs: int, work: float) -> dict[str, Any]:
    """`work`: the seconds that the consumer takes for each batch. At 0, the contents are not looked at."""
    split = open_split(folder, open_dataset(folder), "train")
    count, seconds, crc = steps(split, batch), [], 0
    found = _batches(split, batch, epochs)
    for _ in range(epochs):
        start = 0.0
        for _ in range(count):
            parts = next(found)
            start = start or time.perf_counter()
            if work:
                due = time.perf_counter() + work
                for part in parts:
                    crc = google_crc32c.extend(crc, part.tobytes())
                time.sleep(max(0.0, due - time.perf_counter()))
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "crc32c": crc}


def _batches(split: Split, batch: int, epochs: int) -> Iterator[Any]:
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        return numpy_batches(split, batch, 0, epochs=epochs)
    with quiet_loading():
        from training.reading.input_pipeline import Order, batches
    return iter(batches(split, batch, Order(0), epochs=epochs).as_numpy_iterator())


if __name__ == "__main__":
    main()
