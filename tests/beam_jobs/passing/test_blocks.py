"""Blocks of references: what goes in comes out, and in a local run it waits in a file."""

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.coders import FastPrimitivesCoder
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.passing.blocks import Block, InPartitions, SortByKey, blocks, kept_in
from schemas.errors import JobFailed
from tests.beam_jobs.made import source

_CODER = FastPrimitivesCoder()  # Beam's own, for elements that it knows nothing of


@pytest.mark.parametrize("in_files", [False, True])
def test_a_block_can_be_passed_on_and_gone_through_twice(tmp_path: Path, in_files: bool) -> None:
    items = [source(f"a name with ümlauts/{n}") for n in range(1000)]
    with kept_in(str(tmp_path) if in_files else ""):
        passed = _CODER.decode(_CODER.encode(Block(items)))
    assert list(passed) == items == list(passed)
    again = _CODER.encode(passed)
    assert list(_CODER.decode(again)) == items
    assert (len(again) < 1000) == in_files
    assert len(list(tmp_path.iterdir())) == in_files


def test_blocks_hold_everything_once() -> None:
    assert [list(block) for block in blocks(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(blocks([])) == []


@pytest.mark.parametrize("in_files", [False, True])
def test_items_of_one_key_meet_in_one_partition(tmp_path: Path, in_files: bool) -> None:
    items = [(f"key {n % 300}", n) for n in range(3000)]
    with kept_in(str(tmp_path) if in_files else ""), beam.Pipeline(runner=FnApiRunner()) as pipeline:
        partitions = (
            pipeline
            | beam.Create(list(blocks(items, 70)))
            | InPartitions(lambda item: item[0], held=50)  # few, or all are sorted at the end of the bundle
            | beam.Map(list)
        )
        once = partitions | beam.FlatMap(lambda some: {item[0] for block in some for item in block})
        assert_that(once, equal_to([f"key {n}" for n in range(300)]), label="keys")
        every = partitions | "Items" >> beam.FlatMap(lambda some: [item for block in some for item in block])
        assert_that(every, equal_to(items), label="items")


def test_sorting_makes_few_blocks_of_many() -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        tiny = pipeline | beam.Create([Block(list(range(10))) for _ in range(100)]) | beam.Reshuffle()
        by_key = tiny | beam.ParDo(SortByKey(lambda item, divisor: item % divisor), 2)
        sizes = (
            by_key | beam.GroupByKey() | beam.MapTuple(lambda key, some: (key, [len(list(block)) for block in some]))
        )
        assert_that(sizes, equal_to([(0, [500]), (1, [500])]))


def test_a_full_temporary_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=f"cannot write {tmp_path}/gone/.*TMPDIR"), kept_in(f"{tmp_path}/gone"):
        _CODER.encode(Block([source(str(n)) for n in range(1000)]))
