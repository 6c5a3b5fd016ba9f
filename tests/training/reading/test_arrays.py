"""Shards as arrays: windows, and what is in a chunk, against the examples that were written."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from schemas.dataset import Shard
from schemas.example import Example, encode_example, frame_record, read_records
from schemas.labels import UNCERTAIN, Label
from tests.training.conftest import DataSet
from training.reading import arrays, files
from training.reading.records import Split, are_arrays, arrays_of, open_dataset, open_split
from training.reading.shards import DamagedShard, Row


def shard(number: int, examples: int, size: int) -> Shard:
    return Shard(f"s{number}", examples * size, "", examples, (examples,), "00000000")


def test_windows_hold_every_record_once() -> None:
    shards = [shard(number, number % 5, 100) for number in range(20)]
    found = list(arrays.windows(shards, 1, 0, 2000))
    assert len(found) > 3
    assert sorted(index for window in found for index in window.shards) == [n for n in range(20) if n % 5]
    for window in found:
        assert sorted(window.rows) == list(range(sum(shards[index].examples for index in window.shards)))
    for window in found[:-1]:
        held = [shards[index].bytes for index in window.shards]
        assert sum(held[:-1]) < 1000 <= sum(held)
    again = list(arrays.windows(shards, 1, 0, 2000))
    assert [window.shards for window in again] == [window.shards for window in found]
    other = list(arrays.windows(shards, 1, 1, 2000))
    assert [window.shards for window in other] != [window.shards for window in found]
    stored = list(arrays.windows(shards, None, 0, 2000))
    assert [index for window in stored for index in window.shards] == [n for n in range(20) if n % 5]
    assert all((np.diff(window.rows) == 1).all() for window in stored)


def test_the_order_is_the_same_in_every_release() -> None:
    # RandomState of NumPy, computed once; a change would train another model from the same seed.
    (window,) = arrays.windows([shard(0, 4, 1), shard(1, 4, 1)], 7, 3)
    assert (window.shards, window.rows.tolist()) == ((1, 0), [4, 5, 2, 7, 0, 6, 3, 1])


def test_chunks_hold_what_was_written(make_dataset: Callable[..., DataSet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 500)
    data = make_dataset(
        examples={"train": 50}, size=8, shards=7, classes=("A", "B"), label=lambda n: (n % 2, n % 3 and UNCERTAIN)
    )
    written = {example.id: example for example in data.examples["train"]}
    found = arrays_of(open_split(str(data.folder), data.manifest, "train", read_ahead_bytes=6000))
    chunks = list(found.chunks(0, 0))
    assert all(len(chunk.ids) <= 7 for chunk in chunks)
    for chunk in chunks:
        for pixels, label, name, group in zip(*chunk, strict=True):
            example = written.pop(name.decode())
            np.testing.assert_array_equal(pixels, example.image)
            assert tuple(label) == example.label
            assert group.decode() == example.group
    assert not written


def test_epochs_follow_each_other(make_dataset: Callable[..., DataSet]) -> None:
    data = make_dataset(examples={"train": 30}, size=8, shards=5)
    found = arrays_of(open_split(str(data.folder), data.manifest, "train", read_ahead_bytes=4000))
    assert len(list(arrays.windows(data.manifest.splits["train"], 3, 0, 4000))) > 1
    for epoch, chunks in zip((4, 5, 4), found.epochs(3, (4, 5, 4)), strict=True):
        ids = [name for chunk in chunks for name in chunk.ids]
        assert ids == [name for chunk in found.chunks(3, epoch) for name in chunk.ids]
        assert len(set(ids)) == 30


class SlowRows:
    """Shards of ten records that arrive when they are let."""

    row = Row(bytes=100, image=0, label=64, label_type="u1", id=65, group=65)

    def __init__(self) -> None:
        self.asked: dict[str, threading.Event] = defaultdict(threading.Event)

    def fill(self, shard: Shard, buffer: files.Bytes) -> None:
        buffer[:] = int(shard.file[1:])
        assert self.asked[shard.file].wait(10)


def test_two_windows_are_held_and_where_reading_is_slow_both_are_read() -> None:
    rows = SlowRows()
    shards = [shard(number, 10, 100) for number in range(5)]
    chunks = arrays.Arrays(shards, (8, 8, 1), None, rows, read_ahead_bytes=2000).chunks(None, 0)
    seen: list[int] = []

    def asked() -> list[str]:
        time.sleep(0.05)
        return sorted(rows.asked)

    def take() -> None:
        seen.append(int(next(chunks).images[0, 0, 0, 0]))

    rows.asked["s0"].set()
    take()
    assert asked() == ["s0", "s1"]  # the first one is used, the second one is read
    waits = threading.Thread(target=take)
    waits.start()
    assert asked() == ["s0", "s1", "s2"]  # the first one has been used, so the third one is read in its place
    rows.asked["s1"].set()
    waits.join()
    assert asked() == ["s0", "s1", "s2"]
    for name in ("s2", "s3", "s4"):
        rows.asked[name].set()
    assert [*seen, *(int(chunk.images[0, 0, 0, 0]) for chunk in chunks)] == [0, 1, 2, 3, 4]


def test_the_first_chunk_is_small(make_dataset: Callable[..., DataSet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "FIRST_CHUNK_BYTES", 2 * 64)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 10 * 64)
    data = make_dataset(examples={"train": 40}, size=8)
    found = arrays_of(open_split(str(data.folder), data.manifest, "train"))
    assert [len(chunk.ids) for chunk in found.chunks(0, 0)] == [2, 4, 8, 10, 10, 6]


def test_chunks_end_with_a_batch_of_the_epoch(
    make_dataset: Callable[..., DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 10 * 64)
    data = make_dataset(examples={"train": 100}, size=8, shards=8)
    split = open_split(str(data.folder), data.manifest, "train", read_ahead_bytes=8000)
    ends_of_windows = np.cumsum([len(window.rows) for window in arrays.windows(split.shards, 1, 0, 8000)])
    assert len(ends_of_windows) > 2
    for batch_size in (4, 10, 33):
        ends = np.cumsum([len(chunk.ids) for chunk in arrays_of(split).chunks(1, 0, batch_size)])
        assert ends[-1] == 100
        assert all(end % batch_size == 0 or end in ends_of_windows for end in ends)


def test_memory_is_used_again_only_when_nothing_refers_to_it() -> None:
    memory = arrays.Memory()
    first = memory.array(10, 4)
    assert first.shape == (10, 4)
    assert first.ctypes.data % 64 == 0
    part, place = first[3:].reshape(-1), first.ctypes.data
    first[:] = 7
    del first
    memory.array(10, 4)[:] = 8
    assert set(part) == {7}
    del part
    again = memory.array(10, 4), memory.array(10, 4)
    assert place in [array.ctypes.data for array in again]
    assert not np.shares_memory(*again)
    larger = memory.array(1000)
    assert not any(np.shares_memory(larger, array) for array in again)


def test_shards_of_earlier_releases_hold_the_same(dataset: DataSet) -> None:
    split = open_split(str(dataset.folder), open_dataset(str(dataset.folder)), "train")
    (expected,) = arrays_of(split).chunks(0, 0)
    old = replace(split, shards=tuple(replace(shard, crc32c="") for shard in split.shards), record_bytes=None)
    assert are_arrays(old)
    (found,) = arrays_of(old).chunks(0, 0)
    for read, column in zip(found, expected, strict=True):
        np.testing.assert_array_equal(read, column)
    other = replace(old, shards=(replace(old.shards[0], sha256="0" * 64), *old.shards[1:]))
    with pytest.raises(DamagedShard, match="00000-of-00003 has a different SHA-256"):
        list(arrays_of(other).chunks(0, 0))


def with_uris(folder: Path, label: Label, count: int = 12) -> tuple[Split, list[Example]]:
    """A split of one shard whose records differ in length."""
    written = [
        Example(
            np.full((4, 4, 1), number, np.uint8),
            label,
            f"{number:032x}",
            f"{number // 2:032x}",
            f"gs://a/{'b' * number}",
        )
        for number in range(count)
    ]
    content = b"".join(frame_record(encode_example(one)) for one in written)
    (folder / "s").write_bytes(content)
    width = len(label) if isinstance(label, tuple) else None
    return Split(str(folder), "train", (Shard("s", len(content), "", count, (count,)),), (4, 4, 1), width), written


@pytest.mark.parametrize("label", [1, 300, (1, 0)])
def test_records_that_differ_in_length_are_parsed(tmp_path: Path, label: Label) -> None:
    split, written = with_uris(tmp_path, label)
    assert not are_arrays(split)
    (chunk,) = arrays_of(split).chunks(None, 0)
    np.testing.assert_array_equal(chunk.images, [one.image for one in written])
    np.testing.assert_array_equal(chunk.labels, [label] * 12)
    assert [name.decode() for name in chunk.ids] == [one.id for one in written]
    assert [name.decode() for name in chunk.groups] == [one.group for one in written]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-1], "is damaged: record 11 is truncated"),
        (lambda content: b"".join(map(frame_record, islice(read_records(BytesIO(content)), 9))), "has 9 examples"),
        (
            lambda content: content[:70] + bytes([content[70] ^ 1]) + content[71:],
            "is damaged: record 0 has a wrong data",
        ),
    ],
)
def test_damage_to_a_shard_that_is_parsed(tmp_path: Path, spoil: Callable[[bytes], bytes], message: str) -> None:
    split, _ = with_uris(tmp_path, 1)
    (tmp_path / "s").write_bytes(spoil((tmp_path / "s").read_bytes()))
    with pytest.raises(DamagedShard, match=f"s {message}"):
        list(arrays_of(split).chunks(0, 0))


def test_records_of_another_kind_are_not_read(tmp_path: Path) -> None:
    split, _ = with_uris(tmp_path, (1, 0))
    for change in ({"shape": (2, 8, 2)}, {"label_width": 3}, {"label_width": None}):
        with pytest.raises(DamagedShard, match="s is damaged"):
            list(arrays_of(replace(split, **change)).chunks(0, 0))
