"""The Beam transform that searches all records for near-duplicates."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.elements import Plan
from beam_jobs.leakage import near_duplicates
from beam_jobs.leakage.crowds import HASHED, ROW
from beam_jobs.leakage.near_duplicates import Found
from beam_jobs.passing.blocks import Block, SortByKey
from schemas.dataset import SPLITS


class Spread(NamedTuple):
    """Those ROWs of a shard of `split` that have a value in `part`, as bytes."""

    part: int
    split: str
    rows: bytes


@dataclass
class FindNearDuplicates(beam.PTransform[PCollection[tuple[str, bytes]], PCollection[Found]]):
    """(split, HASHED rows as bytes) of each shard -> one Found, or nothing without shards. Signatures move in blocks of
    Spread, a shard's rows for one part of the search. A local run has one block of each part."""

    plan: AsSingleton  # the one Plan: the number of parts follows from its number of images

    def expand(self, signatures: PCollection[tuple[str, bytes]]) -> PCollection[Found]:
        found: PCollection[Found] = (
            signatures
            | "SpreadSignatures" >> beam.FlatMap(spread_shard, self.plan)
            | "SortByPart" >> beam.ParDo(SortByKey(attrgetter("part"), held=1, noise=True))
            | "ByPart" >> beam.GroupByKey()
            | "SearchPart" >> beam.Map(search_part, self.plan)
            | "MergeParts" >> beam.CombineGlobally(near_duplicates.merged).without_defaults()
        )
        return found


def spread_shard(shard: tuple[str, bytes], plan: Plan) -> Iterator[Block[Spread]]:
    """The rows of one shard, by the part that they go to. Each is a block of its own, because a record goes to up to 20
    parts, and all at once would take twenty times the memory of the shard's signatures."""
    split, signatures = shard
    records = np.frombuffer(signatures, HASHED)
    for part, some in near_duplicates.spread(records, near_duplicates.part_count(plan.planned)):
        yield Block([Spread(part, split, some.tobytes())])


def search_part(keyed: tuple[int, Iterable[Block[Spread]]], plan: Plan) -> Found:
    """The near-duplicates that meet in one part."""
    part, blocks = keyed
    rows: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    for spread in itertools.chain.from_iterable(blocks):
        rows[spread.split].append(spread.rows)
    by_split = [np.frombuffer(b"".join(rows[split]), ROW) for split in SPLITS]
    return near_duplicates.search(part, near_duplicates.part_count(plan.planned), by_split)
