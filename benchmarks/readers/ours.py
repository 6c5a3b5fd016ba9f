"""Ours, for each place where a split is kept between epochs."""

import tempfile
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.readers.figures import MEMORY, STREAMED
from benchmarks.readers.graph import tensorflow_way
from benchmarks.readers.way import Arrays, Data, Epochs, in_epochs, python_way
from training.devices.feeds import Feeding, make_feed
from training.devices.resident import Resident
from training.reading.array_batches import keep, numpy_batches
from training.reading.disk_cache import DiskCache
from training.reading.input_pipeline import Order, batches
from training.reading.records import Split, open_dataset, open_split

PACKAGES = ("radrecords", "tensorflow-cpu", "numpy")


def prepare(data: Data) -> None:
    """Nothing: all of these read the data set as it was converted."""


def _as_converted(split: Split) -> Split:
    return split


def _with_disk_cache(split: Split) -> Split:
    """In a folder that is empty before the first epoch."""
    folder = tempfile.TemporaryDirectory(prefix="radrecords-benchmark-")
    weakref.finalize(split, folder.cleanup)
    return replace(split, disk_cache=DiskCache(folder.name))


def _of_earlier_releases(split: Split) -> Split:
    """As if the manifest had no CRC32C, so that shards are checked by SHA-256."""
    return replace(split, record_bytes=None, shards=tuple(replace(shard, crc32c="") for shard in split.shards))


def _dataset(seen: Callable[[Split], Split], _: Data, folder: str, batch: int) -> tf.data.Dataset:
    split = seen(open_split(folder, open_dataset(folder), "train"))
    return batches(split, batch, Order(0))


def _from_device(_: Data, folder: str, batch: int) -> tf.data.Dataset:
    """The device is the processor here. Training gathers the batch in its step instead of in the pipeline."""
    split = open_split(folder, open_dataset(folder), "train")
    feed = make_feed(split, Feeding(batch, 0), training=True, resident=Resident(split))
    return feed.data.map(feed.prepare)


def _arrays(batch: tuple[Any, Any], _: Data) -> Arrays:
    images, labels = map(np.asarray, batch)
    return images, labels[:, 0]


def _numpy_epochs(seen: Callable[[Split], Split], data: Data, folder: str, batch: int) -> Epochs:
    """As with JAX and torch."""
    split = seen(open_split(folder, open_dataset(folder), "train"))
    return in_epochs(numpy_batches(split, batch, 0), data.steps(batch))


# A line for each.
_OURS: dict[str, Callable[[Split], Split]] = {
    STREAMED: _as_converted,
    MEMORY: keep,
    "radrecords, streamed, older data set": _of_earlier_releases,
}
WAYS = [
    *(tensorflow_way(name, partial(_dataset, how), _arrays, in_bucket=True) for name, how in _OURS.items()),
    tensorflow_way(
        "radrecords, cached on disk",
        partial(_dataset, _with_disk_cache),
        _arrays,
        in_bucket=True,
        on_disk=False,
    ),
    tensorflow_way("radrecords, on the device", _from_device, _arrays),
    python_way("radrecords, streamed, no TensorFlow", partial(_numpy_epochs, _as_converted), _arrays),
    python_way("radrecords, in memory, no TensorFlow", partial(_numpy_epochs, keep), _arrays),
]
