"""Batches without TensorFlow are those that TensorFlow gives; the whole split and its rows give them too."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from schemas.errors import JobFailed
from schemas.labels import UNCERTAIN
from tests.training.conftest import DataSet
from training.reading import arrays
from training.reading.array_batches import epoch_rows, keep, numpy_batches, split_arrays, steps, whole_batches
from training.reading.input_pipeline import Order, batches
from training.reading.records import Split, naming_damaged_shards, open_dataset, open_split

ROOT = Path(__file__).parents[3]
IN_MEMORY, STREAMED = keep, replace  # the split with its arrays, and as it is
BATCH = 20


def split_of(dataset: DataSet) -> Split:
    return open_split(str(dataset.folder), open_dataset(str(dataset.folder)), "train")


def assert_equal(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert [(part.dtype, part.shape) for part in mine] == [(part.dtype, part.shape) for part in other]
        for part, wanted in zip(mine, other, strict=True):
            np.testing.assert_array_equal(part, wanted)


@pytest.mark.parametrize("seed", [3, None])
@pytest.mark.parametrize("read_ahead", [1 << 30, 200_000])
def test_the_same_batches_as_with_tensorflow_kept_and_streamed(
    dataset: DataSet, seed: int | None, read_ahead: int
) -> None:
    # Of the 96 examples, 100,000 bytes are 24, so each shard is shuffled on its own.
    split = replace(split_of(dataset), read_ahead_bytes=read_ahead)
    weights, first = [0.5, 2.0], 4
    number = 2 * steps(split, BATCH)
    with tf.device("CPU"):
        order = None if seed is None else Order(seed, first)
    found = [
        list(batches(cache(split), BATCH, order, weights).take(number).as_numpy_iterator())
        for cache in (IN_MEMORY, STREAMED)
    ]
    found += [
        list(numpy_batches(cache(split), BATCH, seed, first, weights, epochs=2)) for cache in (IN_MEMORY, STREAMED)
    ]
    for other in found[1:]:
        assert_equal(other, found[0])
    images, labels = split_arrays(split)
    rows = [epoch_rows(split, seed, epoch) for epoch in (first, first + 1)]
    np.testing.assert_array_equal(
        np.concatenate([images[some] for some in rows]), np.concatenate([b[0] for b in found[0]])
    )
    np.testing.assert_array_equal(
        np.concatenate([labels[some] for some in rows]), np.concatenate([b[1] for b in found[0]])[:, 0]
    )
    if seed is not None:
        assert rows[0].tolist() != rows[1].tolist()
        assert sorted(rows[0]) == list(range(96))


def test_label_vectors(make_dataset: Callable[..., DataSet]) -> None:
    data = make_dataset(
        examples={"train": 10}, size=8, classes=("A", "B"), label=lambda n: (n % 2, n % 3 and UNCERTAIN)
    )
    written = {data.index_of(example.image): example.label for example in data.examples["train"]}
    for cache in (IN_MEMORY, STREAMED):
        for images, labels in numpy_batches(cache(split_of(data)), 4, 0, epochs=1):
            assert (labels.dtype, labels.shape[1]) == (np.float32, 2)
            assert [tuple(label) for label in labels] == [written[data.index_of(pixels)] for pixels in images]


def test_batches_are_endless_and_closing_them_ends_the_threads(dataset: DataSet) -> None:
    for cache in (IN_MEMORY, STREAMED):
        found = numpy_batches(cache(split_of(dataset)), BATCH, 0)
        assert len(list(islice(found, 12))) == 12
        assert any(thread.name.startswith("batches") for thread in threading.enumerate())
        found.close()  # type: ignore[attr-defined] # it is a generator
        assert not any(thread.name.startswith(("batches", "shard")) for thread in threading.enumerate())


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_whole_batches(size: int) -> None:
    def numbers(start: int, end: int) -> arrays.Chunk:
        rows = np.arange(start, end)
        return arrays.Chunk(rows.astype(np.uint8), rows, rows.astype("S32"), rows.astype("S32"))

    chunks = [numbers(*some) for some in ((0, 4), (4, 5), (5, 17), (17, 30))]
    found = [chunk.labels.tolist() for chunk in whole_batches(chunks, size)]
    assert [number for part in found for number in part] == list(range(30))
    assert all(part and len(part) % size == 0 for part in found[:-1])
    assert len(found[-1]) <= max(size, 13)  # at most one chunk, or what is left of a batch


@pytest.mark.parametrize("cache", [IN_MEMORY, STREAMED])
def test_damage_is_named(make_dataset: Callable[..., DataSet], cache: Callable[[Split], Split]) -> None:
    small = make_dataset(examples={"train": 12}, size=8)
    split = split_of(small)
    small.shard("train", 2).unlink()
    with (
        pytest.raises(JobFailed, match=r"toy-train\.tfrecord-00002-of-00003 is missing"),
        naming_damaged_shards([split]),
    ):
        list(numpy_batches(cache(split), 4, 0, epochs=1))


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # an import would raise
from training.reading.array_batches import identified_batches, numpy_batches
from training.reading.records import all_splits, check_shards, open_dataset, open_split, unlisted_shards

folder = sys.argv[1]
manifest = open_dataset(folder)
check_shards(all_splits(folder, manifest), checksums=True)
split = open_split(folder, manifest, "train")
assert unlisted_shards(folder, manifest) == []
assert sum(len(batch.ids) for batch in identified_batches(split, 7)) == split.examples
left = numpy_batches(split, 2, 0)
print([len(next(left)[0]) for _ in range(100)] == [2] * 100)
"""


def test_without_tensorflow_and_a_script_that_leaves_an_iterator_unfinished_ends(dataset: DataSet) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(dataset.folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
