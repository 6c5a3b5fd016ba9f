"""Reads a data set in a process of its own: the clients read their settings once. A line of JSON in, a line of JSON out.

{"do": "open", "folder": ..., "cache": none, memory or device, "disk": FOLDER or null}   opens the split `train`
{"do": "close"}   ends the reading ahead
{"do": "epoch"}   reads the next epoch and gives the hash of each batch, or {"error": "NAME: text"}
{"do": "images"}   the same with the hash of each image
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from training.reading import arrays, files
from training.reading.array_batches import keep, numpy_batches, steps
from training.reading.buckets.tensorflow_settings import configure
from training.reading.disk_cache import DiskCache
from training.reading.records import Split, all_splits, check_shards, naming_damaged_shards, open_dataset, open_split

BATCH = 20


def batches(split: Split, cache: str) -> Iterator[Any]:
    """Endless batches with the backend's way of reading."""
    if cache == "memory":
        split = keep(split)
    if cache == "device":
        from training.devices.resident import Resident, row_batches

        resident = Resident(split)
        return (tuple(map(np.asarray, resident.gather(rows))) for rows in row_batches(split, BATCH, 5))
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        return numpy_batches(split, BATCH, 5)

    from training.reading.input_pipeline import Order, batches

    found = batches(split, BATCH, Order(5))
    return iter(found.as_numpy_iterator())


def main() -> None:
    """Serves until the input ends."""
    configure()
    files.FIRST_WAIT = 0.0005
    split: Split
    left: Iterator[Any] = iter(())
    answer: Any
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked["do"] == "close":
                left, answer = iter(()), "closed"
            elif asked["do"] == "open":
                arrays.READ_AT_ONCE = asked["at_once"]
                manifest = open_dataset(asked["folder"])
                check_shards(all_splits(asked["folder"], manifest))
                cache = DiskCache(asked["disk"]) if asked["disk"] else None
                split = open_split(asked["folder"], manifest, "train", asked["read_ahead_bytes"], cache)
                with naming_damaged_shards([split]):
                    left = batches(split, asked["cache"])
                answer = "opened"
            else:
                with naming_damaged_shards([split]):
                    found = list(islice(left, steps(split, BATCH)))
                if asked["do"] == "images":
                    answer = [_hash([image]) for images, *_ in found for image in images]
                else:
                    answer = [_hash(batch) for batch in found]
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def _hash(parts: Iterable[Any]) -> str:
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


if __name__ == "__main__":
    main()
