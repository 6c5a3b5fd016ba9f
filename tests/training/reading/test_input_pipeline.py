"""Every example once an epoch, in an order that is a function of seed and epoch; damage is named."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from schemas.errors import JobFailed
from tests.training.conftest import DataSet
from training.reading import arrays as arrays_module
from training.reading.array_batches import identified_batches, keep, steps
from training.reading.input_pipeline import Order, batches
from training.reading.records import (
    Split,
    arrays_of,
    check_shards,
    naming_damaged_shards,
    open_dataset,
    open_split,
)

ROOT = Path(__file__).parents[3]
Way = Callable[[Split], Split]
IN_MEMORY, STREAMED = keep, replace  # the split with its arrays, and as it is
BATCH = 20
WAYS: list[Way] = [IN_MEMORY, STREAMED]


def split_of(dataset: DataSet, name: str = "train") -> Split:
    return open_split(str(dataset.folder), open_dataset(str(dataset.folder)), name)


def order(seed: int, first_epoch: int = 0) -> Order:
    return Order(seed, first_epoch)


def epochs(dataset: DataSet, how: Order | None, way: Way, count: int = 1) -> list[list[int]]:
    """The numbers of the training examples, in the order of each epoch."""
    split = split_of(dataset)
    numbers = [
        dataset.index_of(pixels)
        for images, _ in batches(way(split), BATCH, how).take(count * steps(split, BATCH))
        for pixels in images.numpy()
    ]
    return [numbers[start : start + split.examples] for start in range(0, len(numbers), split.examples)]


@pytest.mark.parametrize("way", WAYS)
class TestOrder:
    def test_every_example_comes_once_an_epoch(self, dataset: DataSet, way: Way) -> None:
        for seen in epochs(dataset, order(1), way, count=3):
            assert sorted(seen) == list(range(96))

    def test_a_function_of_seed_and_epoch(self, dataset: DataSet, way: Way) -> None:
        first, second, third = epochs(dataset, order(1), way, count=3)
        assert first != second != third
        assert epochs(dataset, order(1), way, count=2) == [first, second]
        assert epochs(dataset, order(1, first_epoch=2), way) == [third]
        assert epochs(dataset, order(2), way) != [first]

    def test_examples_of_all_shards_are_mixed(self, dataset: DataSet, way: Way) -> None:
        (seen,) = epochs(dataset, order(1), way)
        # Shard k holds the numbers that leave k when divided by 3.
        assert {number % 3 for number in seen[:BATCH]} == {0, 1, 2}
        assert seen[:BATCH] != sorted(seen[:BATCH])

    def test_without_order_as_stored_and_the_same_each_epoch(self, dataset: DataSet, way: Way) -> None:
        first, second = epochs(dataset, None, way, count=2)
        assert first == second
        assert sorted(first) == list(range(96))

    def test_pixels_labels_and_weights(self, dataset: DataSet, way: Way) -> None:
        written = {dataset.index_of(example.image): example for example in dataset.examples["train"]}
        images, labels, weights = next(iter(batches(way(split_of(dataset)), BATCH, order(1), [0.5, 2.0])))
        assert (images.dtype, images.shape) == (tf.uint8, (BATCH, 64, 64, 1))
        assert (labels.dtype, labels.shape) == (tf.float32, (BATCH, 1))
        for pixels, label, weight in zip(images.numpy(), labels.numpy(), weights.numpy(), strict=True):
            example = written[dataset.index_of(pixels)]
            np.testing.assert_array_equal(pixels, example.image)
            assert label == example.label
            assert weight == (2.0 if label else 0.5)


def test_the_order_does_not_depend_on_what_is_kept_in_memory(dataset: DataSet) -> None:
    expected = epochs(dataset, order(3), IN_MEMORY, count=2)
    assert epochs(dataset, order(3), STREAMED, count=2) == expected
    arrays = arrays_of(split_of(dataset))
    for epoch, numbers in enumerate(expected):
        images = np.concatenate([chunk.images for chunk in arrays.chunks(3, epoch)])
        assert [dataset.index_of(pixels) for pixels in images] == numbers


@pytest.mark.parametrize("cache", [STREAMED, IN_MEMORY])
def test_batches_are_parts_of_the_memory_that_was_filled(dataset: DataSet, cache: Way) -> None:
    """Copies would take new memory for each batch, which takes longer than to read it."""
    found = [images for images, _ in batches(cache(split_of(dataset)), BATCH, order(0)).take(2)]
    first, second = (np.from_dlpack(images) for images in found)
    assert second.ctypes.data - first.ctypes.data == first.nbytes


def test_the_last_batch_holds_what_is_left(dataset: DataSet) -> None:
    sizes = [len(images) for images, _ in batches(split_of(dataset), BATCH, order(0)).take(5)]
    assert sizes == [20, 20, 20, 20, 16]


def test_identified_batches_hold_ids_and_end(dataset: DataSet) -> None:
    written = {example.id: example for example in dataset.examples["test"]}
    parts = list(identified_batches(split_of(dataset, "test"), 8))
    assert [len(part.labels) for part in parts] == [8, 8, 8, 6]
    for part in parts:
        for pixels, label, name, group in zip(*part, strict=True):
            example = written.pop(name.decode())
            np.testing.assert_array_equal(pixels, example.image)
            assert label == example.label
            assert group.decode() == example.group
    assert not written


def test_identified_batches_have_one_size_across_windows(dataset: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "STORED_BYTES", 1)  # each shard of 10 is a window
    parts = list(identified_batches(split_of(dataset, "test"), 8))
    assert [len(part.ids) for part in parts] == [8, 8, 8, 6]
    found = [name.decode() for part in parts for name in part.ids]
    assert found == [example.id for example in dataset.examples["test"]]


def test_a_device_prefetch_gives_every_batch(dataset: DataSet) -> None:
    moved = batches(split_of(dataset), BATCH, order(0)).apply(tf.data.experimental.prefetch_to_device("/CPU:0"))
    assert len(list(moved.take(5))) == 5


class TestDamage:
    @pytest.mark.parametrize("way", WAYS)
    def test_flipped_bit(self, make_dataset: Callable[..., DataSet], way: Way) -> None:
        small = make_dataset(examples={"train": 12}, size=8)
        data = bytearray(small.shard("train", 1).read_bytes())
        data[len(data) // 2] ^= 1
        small.shard("train", 1).write_bytes(data)
        split = split_of(small)
        check_shards([split])  # the size is right
        with (
            pytest.raises(JobFailed, match=r"toy-train\.tfrecord-00001-of-00003 is damaged"),
            naming_damaged_shards([split]),
        ):
            list(batches(way(split), 4, order(0)).take(3))

    @pytest.mark.parametrize("way", WAYS)
    def test_missing_record(self, make_dataset: Callable[..., DataSet], way: Way) -> None:
        small = make_dataset(examples={"train": 12}, size=8)
        data = small.shard("train", 1).read_bytes()
        small.shard("train", 1).write_bytes(data[: len(data) // 4 * 3])  # cut between two records: reads as a clean end
        split = split_of(small)
        with (
            pytest.raises(JobFailed, match=r"toy-train\.tfrecord-00001-of-00003 has 3 examples instead of 4"),
            naming_damaged_shards([split]),
        ):
            list(batches(way(split), 4, order(0)).take(3))

    def test_records_of_another_shape(self, make_dataset: Callable[..., DataSet]) -> None:
        small, other = (make_dataset(name, examples={"train": 12}, size=size) for name, size in (("a", 8), ("b", 9)))
        small.shard("train", 2).write_bytes(other.shard("train", 2).read_bytes())
        split = split_of(small)
        with (
            pytest.raises(JobFailed, match=r"toy-train\.tfrecord-00002-of-00003 is damaged"),
            naming_damaged_shards([split]),
        ):
            list(batches(split, 4).take(3))

    def test_a_shard_of_valid_records_that_is_not_the_manifests(self, make_dataset: Callable[..., DataSet]) -> None:
        small = make_dataset(examples={"train": 12}, size=8)
        small.shard("train", 2).write_bytes(small.shard("train", 0).read_bytes())
        split = split_of(small)
        with (
            pytest.raises(JobFailed, match=r"toy-train\.tfrecord-00002-of-00003 has a different SHA-256"),
            naming_damaged_shards([split]),
        ):
            list(batches(split, 4, order(0)).take(3))

    def test_a_wrong_crc32c_in_the_manifest(self, make_dataset: Callable[..., DataSet]) -> None:
        split = split_of(make_dataset(examples={"train": 12}, size=8))
        wrong = replace(split, shards=(replace(split.shards[0], crc32c="00000000"), *split.shards[1:]))
        with (
            pytest.raises(JobFailed, match=r"overwritten since it was opened .*00000-of-00003 has a different CRC32C"),
            naming_damaged_shards([wrong]),
        ):
            list(batches(wrong, 4, order(0)).take(3))

    def test_a_shard_that_vanishes(self, make_dataset: Callable[..., DataSet]) -> None:
        small = make_dataset(examples={"train": 12}, size=8)
        split = split_of(small)
        small.shard("train", 2).unlink()
        with (
            pytest.raises(JobFailed, match=r"toy-train\.tfrecord-00002-of-00003 is missing"),
            naming_damaged_shards([split]),
        ):
            list(batches(split, 4, order(0)).take(3))


def test_a_script_that_leaves_an_iterator_unfinished_ends(dataset: DataSet) -> None:
    code = (
        "import sys; import tensorflow as tf; from training.reading.input_pipeline import Order, batches;"
        "from training.reading.records import open_dataset, open_split;"
        "split = open_split(sys.argv[1], open_dataset(sys.argv[1]), 'train');"
        "left = iter(batches(split, 2, Order(0)));"
        "[next(left) for _ in range(100)]"
    )
    subprocess.run([sys.executable, "-c", code, str(dataset.folder)], cwd=ROOT, check=True, timeout=60)
