"""Data sets that hold some of the examples of another."""

from collections.abc import Callable

import numpy as np
import pytest

from schemas.errors import JobFailed
from tests.training.conftest import DataSet
from training.reading.array_batches import identified_batches
from training.reading.records import all_splits, check_shards, open_dataset, open_split
from training.shifts.examples import batches, entries, select, write_without


def test_entries_and_selected_examples_are_those_written(dataset: DataSet) -> None:
    known = entries(str(dataset.folder), dataset.manifest)
    written = [(split, each) for split in ("train", "validation") for each in dataset.examples[split]]
    assert known == [(each.id, each.group, each.label, split) for split, each in written]
    assert [each.id for batch in batches(str(dataset.folder), dataset.manifest) for each in batch] == [
        each.id for _, each in written
    ]
    ids = {known[3].id, known[100].id, dataset.examples["test"][0].id}
    found = select(str(dataset.folder), dataset.manifest, ids)
    assert [dataset.index_of(image) for image in found.images] == [int(known[n].id, 16) for n in (3, 100)]
    assert found.labels.tolist() == [known[3].label, known[100].label]
    assert select(str(dataset.folder), dataset.manifest, ()).images.shape == (0, 64, 64, 1)


def test_a_data_set_without_some_examples(make_dataset: Callable[..., DataSet]) -> None:
    source = make_dataset(examples={"train": 20, "validation": 9, "test": 4}, size=16)
    left_out = {each.id for each in (*source.examples["train"][:8], *source.examples["validation"][4:6])}
    output = source.folder.parent / "subset"
    written = write_without(str(source.folder), source.manifest, left_out, str(output))
    manifest = open_dataset(str(output))
    assert manifest == written
    assert list(manifest.splits) == ["train", "validation"]
    check_shards(all_splits(str(output), manifest), checksums=True)
    for split in manifest.splits:
        kept = [each for each in source.examples[split] if each.id not in left_out]
        counts = tuple(sum(each.label == label for each in kept) for label in (0, 1))
        assert (manifest.examples(split), manifest.label_counts(split)) == (len(kept), counts)
        images, labels, ids, _ = (
            np.concatenate(column)
            for column in zip(*identified_batches(open_split(str(output), manifest, split), 4), strict=True)
        )
        assert [id.decode() for id in ids] == [each.id for each in kept]
        assert (images == np.stack([each.image for each in kept])).all()
        assert labels.tolist() == [each.label for each in kept]


def test_a_damaged_shard_is_named(make_dataset: Callable[..., DataSet]) -> None:
    source = make_dataset(examples={"train": 6, "validation": 6}, size=16)
    shard = source.shard("validation", 1)
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(JobFailed, match=f"{shard.name}: record 0 has a wrong data checksum; copy or convert"):
        entries(str(source.folder), source.manifest)
    shard.unlink()
    with pytest.raises(JobFailed, match=f"{shard.name}: No such file"):
        entries(str(source.folder), source.manifest)
