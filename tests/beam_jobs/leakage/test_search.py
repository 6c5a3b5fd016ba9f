"""The transform that searches for near-duplicates, compared with a search in one piece."""

from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.elements import Plan
from beam_jobs.leakage import near_duplicates, search
from beam_jobs.leakage.near_duplicates import Found, hashed, part_count
from beam_jobs.leakage.search import FindNearDuplicates, Spread, search_part
from beam_jobs.passing.blocks import Block, kept_in
from schemas.dataset import SPLITS
from tests.beam_jobs.leakage.test_near_duplicates import Records, all_with_all, made
from tests.beam_jobs.small_pipeline import output_of

_SHARD = 20


class Search(beam.PTransform[PCollection[tuple[str, bytes]], PCollection[Found]]):
    """The search through this number of records."""

    def __init__(self, records: int) -> None:
        super().__init__()
        self._plan = Plan(("a", "b"), {"train": {"a": records}}, {"train": 1}, 0, {}, {})

    def expand(self, signatures: PCollection[tuple[str, bytes]]) -> PCollection[Found]:
        plan = signatures.pipeline | "Plan" >> beam.Create([self._plan])
        found: PCollection[Found] = signatures | FindNearDuplicates(AsSingleton(plan))
        return found


def shards_of(records: Records) -> list[tuple[str, bytes]]:
    """(split, HASHED rows) of shards with these records."""
    shards = []
    for split, name in enumerate(SPLITS):
        of_split = [(signature, id) for signature, id, at in records if at == split]
        for start in range(0, len(of_split), _SHARD):
            rows = hashed(*zip(*of_split[start : start + _SHARD], strict=True))
            shards.append((name, rows.tobytes()))
    return shards


_blocks: list[int] = []  # of each part that was searched


def counting(keyed: tuple[int, Iterable[Block[Spread]]], plan: Plan) -> Found:
    """search_part, which also counts its blocks."""
    part, blocks = keyed
    some = list(blocks)
    _blocks.append(len(some))
    return search_part((part, some), plan)


@pytest.mark.parametrize("in_files", [True, False])
def test_the_transform_finds_the_pairs_of_a_full_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_files: bool
) -> None:
    """In several parts, whether the rows wait in files, as in a local run, or travel between workers. In files, each part
    is one block: the local engine holds what it passes on in memory, and there are shards x parts sets of rows."""
    monkeypatch.setattr(near_duplicates, "_VALUES_IN_A_PART", 300)
    monkeypatch.setattr(search, "search_part", counting)
    _blocks.clear()
    records = made(1, 120, 120)
    assert part_count(len(records)) == 8
    with kept_in(str(tmp_path) if in_files else ""):
        (found,) = output_of(Search(len(records)), shards_of(records))
    expected = all_with_all(records)
    assert len(expected) > 20
    assert near_duplicates.pairs_of(found) == expected
    assert (max(_blocks) == 1) == in_files
