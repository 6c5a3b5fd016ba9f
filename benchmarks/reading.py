"""How fast are batches read from shards? `python -m benchmarks.reading [--examples N] [--batch N]`

The limit is to read the raw records with TensorFlow and do nothing with them. The peer is the usual tutorial, with one
parse per record. Ours streams the shards or keeps them in memory, as arrays or (for data sets of earlier releases)
record by record. All read the same local shards in turn, and the medians of several rounds are compared.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import tensorflow as tf

from schemas import example
from schemas.dataset import Shard
from schemas.shard_name import ShardName
from training.reading.input_pipeline import Order, batches, steps
from training.reading.records import Split

_SHAPE, _SHARDS = (64, 64, 1), 16


def main() -> None:
    """Prints examples per second of each way in the first and in later epochs, and their ratios to the limit in the same
    epoch; writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/reading.json"))
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = _write(Path(folder), flags.examples)
        records = replace(split, record_bytes=None)  # as data sets of earlier releases
        ways: dict[str, Callable[[], tf.data.Dataset]] = {
            "raw records (limit)": lambda: _raw(split).batch(flags.batch).repeat(),
            "one parse per record (peer)": lambda: _tutorial(split, flags.batch).repeat(),
            "ours, streamed": lambda: _ours(split, flags.batch, cache_bytes=0),
            "ours, in memory": lambda: _ours(split, flags.batch, cache_bytes=1 << 40),
            "record by record, streamed": lambda: _ours(records, flags.batch, cache_bytes=0),
            "record by record, in memory": lambda: _ours(records, flags.batch, cache_bytes=1 << 40),
        }
        # The first epoch includes what each way does before its first batch.
        first, later = ({name: list[float]() for name in ways} for _ in range(2))
        for _ in range(flags.rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                batches_of = iter(way())
                for speeds in (first, later):
                    for _ in range(steps(split, flags.batch)):
                        next(batches_of)
                    now = time.perf_counter()
                    speeds[name].append(split.examples / (now - start))
                    start = now
    medians = {name: (statistics.median(first[name]), statistics.median(later[name])) for name in ways}
    limits = medians["raw records (limit)"]
    print(f"{'examples/s':<30}{'epoch 1':>10}{'of the limit':>14}{'epoch 2':>10}{'of the limit':>14}")
    for name, speeds_of in medians.items():
        cells = (f"{speed:>10,.0f}{speed / limit:>14.2f}" for speed, limit in zip(speeds_of, limits, strict=True))
        print(f"{name:<30}{''.join(cells)}")
    content = {"examples": split.examples, "batch": flags.batch, "epoch_1": first, "epoch_2": later}
    flags.json.write_text(json.dumps(content, indent=1) + "\n")


def _write(folder: Path, examples: int) -> Split:
    rng = np.random.default_rng(0)
    shards = []
    for index in range(_SHARDS):
        count = len(range(index, examples, _SHARDS))
        name = str(ShardName("cxr", "train", index, _SHARDS))
        records = b"".join(example.frame_record(example.encode_example(_example(rng, n))) for n in range(count))
        (folder / name).write_bytes(records)
        crc = f"{google_crc32c.value(records):08x}"
        shards.append(Shard(name, len(records), hashlib.sha256(records).hexdigest(), count, (count, 0), crc))
    return Split(str(folder), "train", tuple(shards), _SHAPE, None, example.layout_of(_SHAPE, None).record_bytes)


def _example(rng: np.random.Generator, number: int) -> example.Example:
    name = f"{number:032x}"
    return example.Example(rng.integers(0, 256, _SHAPE, dtype=np.uint8), number % 2, name, name)


def _raw(split: Split) -> tf.data.Dataset:
    return tf.data.TFRecordDataset([split.path(shard) for shard in split.shards])


def _tutorial(split: Split, batch: int) -> tf.data.Dataset:
    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_single_example(
            record,
            {
                example.IMAGE: tf.io.FixedLenFeature([], tf.string),
                example.LABEL: tf.io.FixedLenFeature([], tf.int64),
            },
        )
        return tf.reshape(tf.io.decode_raw(features[example.IMAGE], tf.uint8), _SHAPE), features[example.LABEL]

    records = _raw(split).shuffle(16_384)
    return records.map(parse, tf.data.AUTOTUNE).batch(batch).prefetch(tf.data.AUTOTUNE)


def _ours(split: Split, batch: int, cache_bytes: int) -> tf.data.Dataset:
    first_epoch = tf.Variable(0, dtype=tf.int64)
    return batches(split, batch, Order(0, first_epoch), cache_bytes=cache_bytes)


if __name__ == "__main__":
    main()
