"""The order of the examples: a function of (seed, epoch), whatever the cache, the backend, and where a run goes on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.conftest import DataSet
from training.devices.feeds import ArrayFeed, Feed, Feeding, make_feed
from training.devices.resident import Resident
from training.devices.waiting import Waiting
from training.reading import files
from training.reading.array_batches import epoch_rows, keep
from training.reading.disk_cache import DiskCache
from training.reading.records import Split, open_split

BATCH, SEED = 20, 7  # of 96 examples: 5 steps an epoch, and the last batch is smaller
CACHES = ["none", "memory", "device"]


@pytest.fixture
def split(dataset: DataSet) -> Split:
    # Each of the three shards is a window, so that streaming has something to do.
    return replace(open_split(str(dataset.folder), dataset.manifest, "train"), read_ahead_bytes=200_000)


def feed_of(split: Split, cache: str, epoch: int = 0, step: int = 0, training: bool = True) -> Feed:
    how = Feeding(BATCH, SEED)
    split = keep(split) if cache == "memory" else split
    weights = [1.0, 3.0]
    resident = Resident(split, weights) if cache == "device" else None
    feed = make_feed(split, how, training, weights, epoch, step, resident)
    feed.begin()
    return feed


def batches(feed: Feed, epochs: int) -> Iterator[tuple[np.ndarray[Any, Any], ...]]:
    """What the model gets, as NumPy arrays."""
    if isinstance(feed.data, ArrayFeed):
        found: Iterator[Any] = (feed.data[index] for _ in range(epochs) for index in range(feed.steps))
    else:
        found = iter(feed.data.take(epochs * feed.steps))
    for batch in found:
        yield tuple(map(keras.ops.convert_to_numpy, feed.prepare(batch) if feed.prepare else batch))


def numbers(found: Iterator[tuple[np.ndarray[Any, Any], ...]]) -> list[int]:
    return [DataSet.index_of(image) for images, *_ in found for image in images]


@pytest.mark.parametrize("cache", CACHES)
def test_two_epochs_have_the_order_that_numpy_gives(dataset: DataSet, split: Split, cache: str) -> None:
    stored = [DataSet.index_of(example.image) for example in dataset.examples["train"]]
    expected = [stored[row] for epoch in (3, 4) for row in epoch_rows(split, SEED, epoch)]
    assert expected[:96] != expected[96:]
    assert numbers(batches(feed_of(split, cache, epoch=3), 2)) == expected
    assert numbers(batches(feed_of(split, cache, epoch=3, step=2), 1)) == expected[2 * BATCH : 96][: 3 * BATCH]


@pytest.mark.parametrize("cache", CACHES)
def test_labels_and_weights_belong_to_the_images(dataset: DataSet, split: Split, cache: str) -> None:
    labels = {DataSet.index_of(example.image): example.label for example in dataset.examples["train"]}
    for images, targets, weights in batches(feed_of(split, cache), 1):
        assert images.dtype == np.uint8
        assert targets.dtype == weights.dtype == np.float32
        expected = [labels[DataSet.index_of(image)] for image in images]
        assert targets[:, 0].tolist() == expected
        assert weights.tolist() == [3.0 if label else 1.0 for label in expected]


@pytest.mark.parametrize("cache", CACHES)
def test_validation_comes_as_stored_each_time(dataset: DataSet, split: Split, cache: str) -> None:
    stored = [DataSet.index_of(example.image) for example in dataset.examples["train"]]
    assert numbers(batches(feed_of(split, cache, training=False), 2)) == 2 * stored


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_read_for_epochs_that_are_not_to_come(
    split: Split, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = files.read_into

    def read_into(path: str, buffer: files.Bytes) -> files.Found:
        read.append(path)
        return original(path, buffer)

    monkeypatch.setattr(files, "read_into", read_into)
    feed = make_feed(split, Feeding(BATCH, SEED), training, epochs=2)
    feed.begin()
    if isinstance(feed.data, ArrayFeed):
        assert len(list(batches(feed, 2))) == 10
        with pytest.raises(StopIteration):
            feed.data[0]
    else:  # Keras begins the data of validation again for each epoch
        assert len(list(feed.data)) == (10 if training else 5)
        assert training or len(list(feed.data)) == 5
    assert sorted(read) == sorted([split.path(shard) for shard in split.shards] * 2)


def test_shards_on_the_disk_have_the_same_order(split: Split, tmp_path: Path) -> None:
    """A local data set does not use the cache; tests/gcs compares the batches from a bucket."""
    cached = replace(split, disk_cache=DiskCache(str(tmp_path)))
    assert numbers(batches(feed_of(cached, "none"), 2)) == numbers(batches(feed_of(split, "none"), 2))


def test_what_keras_takes_before_it_begins_comes_again() -> None:
    feed = ArrayFeed(iter([(number,) for number in range(5)]), 2)
    assert [feed[0], feed[0], feed[0]] == [(0,)] * 3
    feed.begin()
    assert [feed[index] for index in (0, 1, 0, 1)] == [(0,), (1,), (2,), (3,)]


def test_waiting_counts_from_the_second_batch() -> None:
    waiting = Waiting()
    waiting.add_source(lambda: 10.0)
    assert list(waiting.timed(iter("ab"))) == ["a", "b"]
    assert waiting.seconds > 10
    waiting.begin()
    assert waiting.seconds == 0
