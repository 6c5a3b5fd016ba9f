"""Data sets that are not there, and shards that are not what the manifest promises, are named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import JobFailed, UsageError
from tests.training.conftest import DataSet
from training.reading.records import Split, check_shards, open_dataset, open_split


def split_of(dataset: DataSet, name: str = "train") -> Split:
    return open_split(str(dataset.folder), open_dataset(str(dataset.folder)), name)


def test_missing_folder_and_manifest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no manifest\.json"):
        open_dataset(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"has no manifest\.json"):
        open_dataset(str(tmp_path))


def test_manifest_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        open_dataset(str(tmp_path))


def test_unknown_and_empty_split(make_dataset: Callable[..., DataSet]) -> None:
    small = make_dataset(examples={"train": 4, "validation": 0}, size=8)
    with pytest.raises(UsageError, match="has no split 'test'; it has train, validation"):
        split_of(small, "test")
    with pytest.raises(UsageError, match=r"split validation of .* is empty"):
        split_of(small, "validation")


def test_every_bad_shard_is_named(make_dataset: Callable[..., DataSet]) -> None:
    small = make_dataset(examples={"train": 12}, size=8)
    small.shard("train", 0).unlink()
    small.shard("train", 2).write_bytes(small.shard("train", 2).read_bytes()[:-10])
    with pytest.raises(JobFailed) as caught:
        check_shards([split_of(small)])
    message = str(caught.value)
    assert "toy-train.tfrecord-00000-of-00003 is missing" in message
    assert "toy-train.tfrecord-00002-of-00003 has " in message
    assert "00001-of-00003" not in message


def test_checksums_name_what_sizes_cannot(make_dataset: Callable[..., DataSet]) -> None:
    small = make_dataset(examples={"train": 12}, size=8)
    data = bytearray(small.shard("train", 1).read_bytes())
    data[len(data) // 2] ^= 1
    small.shard("train", 1).write_bytes(data)
    check_shards([split_of(small)])
    with pytest.raises(JobFailed) as caught:
        check_shards([split_of(small)], checksums=True)
    assert "1 shard(s)" in str(caught.value)
    assert "toy-train.tfrecord-00001-of-00003 has a different SHA-256" in str(caught.value)


def test_a_data_set_overwritten_since_it_was_opened_is_said_to_be(make_dataset: Callable[..., DataSet]) -> None:
    old, new = (make_dataset(name, examples={"train": count}, size=8) for name, count in (("a", 12), ("b", 15)))
    opened = split_of(old)
    old.shard("train", 1).unlink()
    (old.folder / "manifest.json").write_bytes((new.folder / "manifest.json").read_bytes())
    with pytest.raises(
        JobFailed, match=r"has been overwritten since it was opened \(toy-train\.tfrecord-00001-of-00003"
    ):
        check_shards([opened])
