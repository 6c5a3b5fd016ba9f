"""Does reading a larger set take more memory? `python -m benchmarks.reading_memory [--read_ahead_mb 32]`

Streams an epoch of local sets of 1, 3 and 10 times --read_ahead_mb in processes of their own, with NumPy and with
TensorFlow, and prints the growth of the peak resident memory over that before the first batch. Linux only: it reads /proc.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

from benchmarks.memory import peak_bytes
from benchmarks.reading import write_split
from schemas.dataset import Shard
from training.reading.array_batches import numpy_batches, steps
from training.reading.records import Split

_RECORD_BYTES = 4300  # about
_BATCH = 256


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--read_ahead_mb", type=int, default=32)
    parser.add_argument("--stream", help=argparse.SUPPRESS)  # of the processes that measure
    flags = parser.parse_args()
    if flags.stream:
        print(_growth(**json.loads(flags.stream)))
        return
    print(f"{'way':<12}{'set MiB':>9}{'growth of the peak MiB':>25}")
    for times in (1, 3, 10):
        with tempfile.TemporaryDirectory() as folder:
            size = times * flags.read_ahead_mb << 20
            split = write_split(Path(folder), size // _RECORD_BYTES, shards=8 * times)
            shards = [vars(shard) for shard in split.shards]
            for way in ("numpy", "tensorflow"):
                asked = json.dumps(
                    {"folder": folder, "shards": shards, "way": way, "read_ahead": flags.read_ahead_mb << 20}
                )
                command = [sys.executable, "-m", "benchmarks.reading_memory", "--stream", asked]
                found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                print(f"{way:<12}{size >> 20:>9}{int(found) / 2**20:>25.0f}", flush=True)


def _growth(folder: str, shards: list[dict[str, object]], way: str, read_ahead: int) -> int:
    parts = tuple(Shard(**{**shard, "label_counts": ()}) for shard in shards)  # type: ignore[arg-type] # from JSON
    split = replace(Split(folder, "train", parts, (64, 64, 1)), read_ahead_bytes=read_ahead)
    if way == "numpy":
        found = iter(numpy_batches(split, _BATCH, 0, cache_bytes=0, epochs=1))
    else:
        import tensorflow as tf

        from training.reading.input_pipeline import Order, batches

        order = Order(0, tf.Variable(0, dtype=tf.int64))
        found = batches(split, _BATCH, order, cache_bytes=0).as_numpy_iterator()
    before = peak_bytes("self")
    for _ in islice(found, steps(split, _BATCH)):
        pass
    return peak_bytes("self") - before


if __name__ == "__main__":
    main()
