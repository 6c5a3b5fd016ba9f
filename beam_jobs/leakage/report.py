"""The content of `leakage.json`: every kind of leak between splits."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.elements import Plan
from beam_jobs.leakage import near_duplicates
from beam_jobs.leakage.near_duplicates import MEASURE, Found
from beam_jobs.leakage.reported_pairs import ACTED_ON, LEAKAGE, Ids
from schemas.dataset import SPLITS


def report(found: Found, plan: Plan, overlap_allowed: bool, acted_on: Sequence[Ids] | None) -> dict[str, Any]:
    """The content of leakage.json. `acted_on`: the pairs of --near_duplicates_of, if it was given; the next version
    needs them. Byte-identical images in several splits or with several labels, and groups in several splits that were
    not allowed, would have failed the job before anything was written, so their counts are zero."""
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
    """The line about leaks in the summary of a run."""
    near = leakage["near_duplicates_across_splits"]
    return (
        f"leaks: {leakage['groups_in_several_splits']['total']:,} groups in several splits, "
        f"{leakage['identical_images_in_several_splits']:,} byte-identical images across splits and "
        f"{leakage['identical_images_with_several_labels']:,} across labels, "
        f"{near['total']:,} pairs of near-duplicates across splits; "
        f"see {LEAKAGE}"
    )
