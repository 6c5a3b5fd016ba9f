"""Blocks of references keep their items, and in a local run they wait in a file."""

import itertools
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.coders import FastPrimitivesCoder

from beam_jobs.passing.blocks import Block, InPartitions, SortByKey, blocks, kept_in
from schemas.errors import JobFailed
from tests.beam_jobs.made import source
from tests.beam_jobs.small_pipeline import output_of

_CODER = FastPrimitivesCoder()  # Beam's coder for elements of types that it does not know


@pytest.mark.parametrize("in_files", [False, True])
def test_a_block_can_be_passed_on_and_iterated_twice(tmp_path: Path, in_files: bool) -> None:
    items = [source(f"a name with ümlauts/{n}") for n in range(1000)]
    with kept_in(str(tmp_path) if in_files else ""):
        passed = _CODER.decode(_CODER.encode(Block(items)))
    assert list(passed) == items == list(passed)
    again = _CODER.encode(passed)
    assert list(_CODER.decode(again)) == items
    assert (len(again) < 1000) == in_files
    assert len(list(tmp_path.iterdir())) == in_files


def test_blocks_hold_every_item_once() -> None:
    assert [list(block) for block in blocks(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(blocks([])) == []


@pytest.mark.parametrize("in_files", [False, True])
def test_items_with_the_same_key_are_in_one_partition(tmp_path: Path, in_files: bool) -> None:
    items = [(f"key {n % 300}", n) for n in range(3000)]
    # `held` is small; otherwise all items would be sorted at the end of the bundle.
    partition = InPartitions(lambda item: item[0], held=50) | beam.Map(
        lambda some: [x for block in some for x in block]
    )
    with kept_in(str(tmp_path) if in_files else ""):
        partitions = output_of(partition, blocks(items, 70))
    keys = [{key for key, _ in partition} for partition in partitions]
    assert sum(map(len, keys)) == 300 == len(set.union(*keys))
    assert sorted(itertools.chain.from_iterable(partitions)) == sorted(items)


@pytest.mark.parametrize(("in_files", "sizes"), [(True, [500]), (False, [100] * 5)])
def test_sorting_turns_many_blocks_into_few(tmp_path: Path, in_files: bool, sizes: list[int]) -> None:
    by_divisor = (
        beam.Reshuffle()
        | beam.ParDo(SortByKey(lambda item, divisor: item % divisor, held=200), 2)
        | beam.GroupByKey()
        | beam.MapTuple(lambda key, some: (key, [list(block) for block in some]))
    )
    tiny = [Block(list(range(10 * n, 10 * n + 10))) for n in range(100)]
    with kept_in(str(tmp_path) if in_files else ""):
        even, odd = sorted(output_of(by_divisor, tiny))
    for remainder, (key, some) in enumerate((even, odd)):
        assert key == remainder
        assert list(map(len, some)) == sizes
        assert sorted(itertools.chain.from_iterable(some)) == list(range(remainder, 1000, 2))


def test_a_temporary_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=f"cannot write {tmp_path}/gone/.*TMPDIR"), kept_in(f"{tmp_path}/gone"):
        _CODER.encode(Block([source(str(n)) for n in range(1000)]))
