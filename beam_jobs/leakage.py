"""Leaks between splits: near-duplicates searched over all records, and what `leakage.json` tells of every kind."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from beam_jobs import near_duplicates
from beam_jobs.blocks import Block
from beam_jobs.crowds import HASHED, ROW
from beam_jobs.known_pairs import ACTED_ON, LEAKAGE, Ids
from beam_jobs.near_duplicates import MEASURE, Found
from beam_jobs.plan import Plan
from schemas.dataset import SPLITS


@dataclass
class FindNearDuplicates(beam.PTransform):  # type: ignore[misc]
    """(split, HASHED rows as bytes) of each shard -> the one Found; none where there is no shard. Signatures move in blocks,
    not one by one: a block is a shard's rows for one part of the search."""

    plan: Any  # the one Plan, as a side input: the number of parts follows from its number of images
    spill: str

    def expand(self, signatures: Any) -> Any:
        return (
            signatures
            | "SpreadSignatures" >> beam.FlatMap(spread_shard, self.plan, self.spill)
            | "ByPart" >> beam.GroupByKey()
            | "SearchPart" >> beam.Map(search_part, self.plan)
            | "MergeParts" >> beam.CombineGlobally(near_duplicates.merged).without_defaults()
        )


def spread_shard(shard: tuple[str, bytes], plan: Plan, spill: str) -> Iterator[tuple[int, tuple[str, Block[bytes]]]]:
    """The blocks of one shard, keyed by the part that they go to."""
    split, signatures = shard
    records = np.frombuffer(signatures, HASHED)
    for part, some in near_duplicates.spread(records, near_duplicates.part_count(plan.planned)):
        yield part, (split, Block([some.tobytes()], spill, noise=True))


def search_part(keyed: tuple[int, Iterable[tuple[str, Block[bytes]]]], plan: Plan) -> Found:
    """The near-duplicates that meet in one part."""
    rows: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    part, blocks = keyed
    for split, block in blocks:
        rows[split].extend(block)
    by_split = [np.frombuffer(b"".join(rows[split]), ROW) for split in SPLITS]
    return near_duplicates.search(part, near_duplicates.part_count(plan.planned), by_split)


def report(found: Found, plan: Plan, overlap_allowed: bool, acted_on: Sequence[Ids] | None) -> dict[str, Any]:
    """The content of leakage.json. `acted_on`: the pairs of --near_duplicates_of, if it was given, for the version after
    this one. Byte-identical images in several splits or with several labels, and groups in several splits that were not
    allowed, have failed the job before anything was written: those counts are zero."""
    pairs = near_duplicates.pairs_of(found)
    return {
        "groups_in_several_splits": {
            "allowed": overlap_allowed,
            "total": plan.overlaps.get("", 0),
            "groups": [json.loads(text) for text in sorted(plan.overlaps) if text],
        },
        "identical_images_in_several_splits": 0,
        "identical_images_with_several_labels": 0,
        "near_duplicates_across_splits": {
            "measure": MEASURE,
            "total": sum(found.by_distance),
            "by_distance": {str(distance): count for distance, count in enumerate(found.by_distance) if count},
            "not_compared": found.not_compared,
            "shown": len(pairs),
            "pairs": [
                {
                    "distance": pair.distance,
                    "ids": [pair.first_id, pair.second_id],
                    "splits": [SPLITS[pair.first_split], SPLITS[pair.second_split]],
                }
                for pair in pairs
            ],
        },
        **({} if acted_on is None else {ACTED_ON: acted_on}),
    }


def summary(leakage: Mapping[str, Any]) -> str:
    """One line for the summary of a run."""
    near = leakage["near_duplicates_across_splits"]
    return (
        f"leaks: {leakage['groups_in_several_splits']['total']:,} groups in several splits, "
        f"{leakage['identical_images_in_several_splits']:,} byte-identical images across splits and "
        f"{leakage['identical_images_with_several_labels']:,} across labels, "
        f"{near['total']:,} pairs of near-duplicates across splits; "
        f"see {LEAKAGE}"
    )
