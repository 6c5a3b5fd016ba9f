"""How fast are batches read from shards? `python -m benchmarks.reading [--examples N]`

The limit is to read the raw records and do nothing with them. The peer is the usual tutorial, with one parse per record.
Ours streams from the shards, or reads from memory. All read the same local shards in turn, and the medians of several
rounds are compared.
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

_SHAPE, _BATCH, _SHARDS = (64, 64, 1), 64, 16


def main() -> None:
    """Prints examples per second of each way and its ratio to the limit, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/reading.json"))
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = _write(Path(folder), flags.examples)
        ways: dict[str, Callable[[], tf.data.Dataset]] = {
            "raw records (limit)": lambda: _raw(split).batch(_BATCH),
            "one parse per record (peer)": lambda: _tutorial(split),
            "ours, streamed": lambda: _ours(split, cache_bytes=0),
            "ours, in memory": lambda: _ours(split, cache_bytes=1 << 40),
            "ours, record by record": lambda: _ours(replace(split, record_bytes=None), cache_bytes=0),
        }
        datasets = {
            name: way() for name, way in ways.items()
        }  # the one in memory is filled here, outside the timed part
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(flags.rounds):
            for name, dataset in datasets.items():
                start = time.perf_counter()
                for _ in dataset.take(steps(split, _BATCH)):
                    pass
                speeds[name].append(split.examples / (time.perf_counter() - start))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    limit = medians["raw records (limit)"]
    for name, median in medians.items():
        print(f"{name:<28}{median:>10,.0f} examples/s  {median / limit:>5.2f} of the limit")
    flags.json.write_text(
        json.dumps({"examples": split.examples, "speeds": speeds, "medians": medians}, indent=1) + "\n"
    )


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


def _tutorial(split: Split) -> tf.data.Dataset:
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
    return records.map(parse, tf.data.AUTOTUNE).batch(_BATCH).prefetch(tf.data.AUTOTUNE)


def _ours(split: Split, cache_bytes: int) -> tf.data.Dataset:
    first_epoch = tf.Variable(0, dtype=tf.int64)
    return batches(split, _BATCH, Order(0, first_epoch), cache_bytes=cache_bytes)


if __name__ == "__main__":
    main()
