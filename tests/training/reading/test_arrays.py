"""Shards as arrays: windows, and what is in a chunk, against the examples that were written."""

from collections.abc import Callable

import numpy as np
import pytest

from schemas.dataset import Shard
from schemas.labels import UNCERTAIN
from tests.training.conftest import DataSet
from training.reading import arrays
from training.reading.records import arrays_of, open_dataset, open_split


def shard(number: int, examples: int, size: int) -> Shard:
    return Shard(f"s{number}", examples * size, "", examples, (examples,), "00000000")


def test_windows_hold_every_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "WINDOW_BYTES", 1000)
    shards = [shard(number, number % 5, 100) for number in range(20)]
    found = list(arrays.windows(shards, 1, 0))
    assert len(found) > 3
    assert sorted(index for window in found for index in window.shards) == [n for n in range(20) if n % 5]
    for window in found:
        assert sorted(window.rows) == list(range(sum(shards[index].examples for index in window.shards)))
    for window in found[:-1]:
        held = [shards[index].bytes for index in window.shards]
        assert sum(held[:-1]) < 1000 <= sum(held)
    again = list(arrays.windows(shards, 1, 0))
    assert [window.shards for window in again] == [window.shards for window in found]
    other = list(arrays.windows(shards, 1, 1))
    assert [window.shards for window in other] != [window.shards for window in found]
    stored = list(arrays.windows(shards, None, 0))
    assert [index for window in stored for index in window.shards] == [n for n in range(20) if n % 5]
    assert all((np.diff(window.rows) == 1).all() for window in stored)


def test_the_order_is_the_same_in_every_release() -> None:
    # RandomState of NumPy, computed once; a change would train another model from the same seed.
    (window,) = arrays.windows([shard(0, 4, 1), shard(1, 4, 1)], 7, 3)
    assert (window.shards, window.rows.tolist()) == ((1, 0), [4, 5, 2, 7, 0, 6, 3, 1])


def test_chunks_hold_what_was_written(make_dataset: Callable[..., DataSet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "WINDOW_BYTES", 3000)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 500)
    data = make_dataset(
        examples={"train": 50}, size=8, shards=7, classes=("A", "B"), label=lambda n: (n % 2, n % 3 and UNCERTAIN)
    )
    written = {example.id: example for example in data.examples["train"]}
    found = arrays_of(open_split(str(data.folder), open_dataset(str(data.folder)), "train"))
    assert found is not None
    chunks = list(found.chunks(0, 0))
    assert all(len(chunk.ids) <= 7 for chunk in chunks)
    for chunk in chunks:
        for pixels, label, name in zip(*chunk, strict=True):
            example = written.pop(name.decode())
            np.testing.assert_array_equal(pixels, example.image)
            assert tuple(label) == example.label
    assert not written


def test_shards_that_the_manifest_does_not_call_arrays_are_not_read_as_such(dataset: DataSet) -> None:
    split = open_split(str(dataset.folder), open_dataset(str(dataset.folder)), "train")
    assert arrays_of(split) is not None
    for change in (
        {"record_bytes": None},
        {"record_bytes": 4000},
        {"shards": tuple(without_crc(s) for s in split.shards)},
    ):
        assert arrays_of(split.__class__(**{**vars(split), **change})) is None


def without_crc(shard: Shard) -> Shard:
    return Shard(shard.file, shard.bytes, shard.sha256, shard.examples, shard.label_counts)
