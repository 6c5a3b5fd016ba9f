"""Which images go to which shard of scores. References only, no pixels."""

import math
from collections.abc import Mapping

from beam_jobs.elements import Plan, Reference
from beam_jobs.passing.blocks import Block
from beam_jobs.scoring.config import ScoringConfig
from beam_jobs.settings.id_key import id_key
from schemas.errors import UsageError
from schemas.identity import pseudonym
from schemas.source import Source

ALL = "all"  # the only split

# A row is short. So the size of a shard follows from the work that an interruption may cost: a minute or two of a worker.
_SHARD_IMAGES = 5_000
# A small archive still gets several shards, for several workers.
_SMALL_SHARD_IMAGES, _SMALL_SET_SHARDS = 256, 16


def references(sources: Block[Source], config: ScoringConfig) -> Block[Reference]:
    """The sources with their pseudonyms, which are those that a conversion of the same folder with the same key gives."""
    key = id_key(config)
    return Block([Reference(source, pseudonym("id", source.path, key), "", ALL) for source in sources])


def plan_of(
    config: ScoringConfig,
    counts: Mapping[tuple[str, str], int],
    duplicates: int,
    skipped: Mapping[str, int],
    notes: Mapping[str, int],
) -> Plan:
    """The plan for `counts` images by (split, label). Raises UsageError if there is none."""
    images = sum(counts.values())
    given = config.manifest or config.input
    if not images:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items())) or "no file"
        raise UsageError(f"{given} contains no image to score ({why})")
    exported = config.exported
    shards = {ALL: shard_count(images, config)}
    return Plan(
        exported.classes, {ALL: {"": images}}, shards, duplicates, dict(skipped), dict(notes), exported.label_kind
    )


def shard_count(images: int, config: ScoringConfig) -> int:
    """The number of shards for this number of images."""
    if config.shards:
        return config.shards
    for_workers = min(_SMALL_SET_SHARDS, math.ceil(images / _SMALL_SHARD_IMAGES))
    return max(1, for_workers, math.ceil(images / _SHARD_IMAGES))
