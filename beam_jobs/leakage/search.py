"""The Beam transform that searches all records for near-duplicates."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.elements import Plan
from beam_jobs.leakage import near_duplicates
from beam_jobs.leakage.crowds import HASHED, ROW
from beam_jobs.leakage.near_duplicates import Found
from beam_jobs.passing.blocks import Block
from schemas.dataset import SPLITS


@dataclass
class FindNearDuplicates(beam.PTransform[PCollection[tuple[str, bytes]], PCollection[Found]]):
    """(split, HASHED rows as bytes) of each shard -> one Found, or nothing without shards. Signatures move in blocks: a
    block is a shard's rows for one part of the search."""

    plan: AsSingleton  # the one Plan: the number of parts follows from its number of images

    def expand(self, signatures: PCollection[tuple[str, bytes]]) -> PCollection[Found]:
        found: PCollection[Found] = (
            signatures
            | "SpreadSignatures" >> beam.FlatMap(spread_shard, self.plan)
            | "ByPart" >> beam.GroupByKey()
            | "SearchPart" >> beam.Map(search_part, self.plan)
            | "MergeParts" >> beam.CombineGlobally(near_duplicates.merged).without_defaults()
        )
        return found


def spread_shard(shard: tuple[str, bytes], plan: Plan) -> Iterator[tuple[int, tuple[str, Block[bytes]]]]:
    """The blocks of one shard, keyed by the part that they go to."""
    split, signatures = shard
    records = np.frombuffer(signatures, HASHED)
    for part, some in near_duplicates.spread(records, near_duplicates.part_count(plan.planned)):
        yield part, (split, Block([some.tobytes()], noise=True))


def search_part(keyed: tuple[int, Iterable[tuple[str, Block[bytes]]]], plan: Plan) -> Found:
    """The near-duplicates that meet in one part."""
    rows: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    part, blocks = keyed
    for split, block in blocks:
        rows[split].extend(block)
    by_split = [np.frombuffer(b"".join(rows[split]), ROW) for split in SPLITS]
    return near_duplicates.search(part, near_duplicates.part_count(plan.planned), by_split)
