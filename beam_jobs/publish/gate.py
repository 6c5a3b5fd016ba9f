"""Account for every input, and refuse what must not be published."""

import collections
import json
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from beam_jobs.elements import Plan, ShardResult
from beam_jobs.settings.config import ConvertConfig
from schemas.dataset import Manifest
from schemas.errors import JobFailed
from schemas.example import ONE_BYTE_LABELS, layout_of
from schemas.labels import CLASS


class Ended(NamedTuple):
    """How the inputs of a job ended: counts for the manifest. quarantined, skipped, notes: by reason."""

    inputs: Mapping[str, int]
    quarantined: Mapping[str, int]
    skipped: Mapping[str, int]
    notes: Mapping[str, int]


def count_ended(results: list[ShardResult], plan: Plan) -> Ended:
    """The counts of these shards and of the plan. Raises JobFailed unless every input is accounted for exactly once."""
    written = sum(result.shard.examples for result in results)
    quarantined = [entry for result in results for entry in result.quarantined]
    notes: collections.Counter[str] = collections.Counter(plan.notes)
    skipped_when_read: collections.Counter[str] = collections.Counter()
    for result in results:
        notes.update(result.notes)
        skipped_when_read.update(result.skipped)
    ended = written + len(quarantined) + skipped_when_read.total()
    if ended != plan.planned or len(results) != sum(plan.shards.values()):
        raise JobFailed(
            f"{plan.planned} images were planned but {ended} are accounted for; nothing was published. This is a bug"
        )
    skipped = collections.Counter(plan.skipped) + skipped_when_read
    inputs = {
        "listed": written + len(quarantined) + plan.duplicates + skipped.total(),
        "written": written,
        "quarantined": len(quarantined),
        "duplicates": plan.duplicates,
        "skipped": skipped.total(),
    }
    return Ended(inputs, collections.Counter(entry.reason for entry in quarantined), skipped, notes)


def account(results: list[ShardResult], plan: Plan, config: ConvertConfig, revision: int) -> Manifest:
    """The manifest of these shards. Raises JobFailed unless every input is accounted for exactly once."""
    ended = count_ended(results, plan)
    return Manifest(
        name=config.name,
        version=config.version,
        revision=revision,
        classes=plan.classes,
        label_kind=plan.label_kind,
        image=config.image,
        inputs=ended.inputs,
        skipped=ended.skipped,
        quarantined=ended.quarantined,
        notes=ended.notes,
        splits={split: tuple(r.shard for r in results if r.split == split) for split in plan.counts},
        record_bytes=_record_bytes(plan, config),
        settings={**config.settings(), "keyed_ids": bool(config.id_key_file)},
    )


def _record_bytes(plan: Plan, config: ConvertConfig) -> int | None:
    if config.include_source_uri or (plan.label_kind == CLASS and len(plan.classes) > ONE_BYTE_LABELS):
        return None
    width = None if plan.label_kind == CLASS else len(plan.classes)
    return layout_of(config.image.shape, width).record_bytes


def gate(manifest: Manifest, config: ConvertConfig, listed: str) -> None:
    """Raises JobFailed if too many images were rejected (the file `listed` names them), or if a split came out empty."""
    check_rejects(manifest.inputs, manifest.quarantined, config, listed)
    for split in manifest.splits:
        if not manifest.examples(split):
            raise JobFailed(f"every image of the {split} split was rejected; nothing was published")


def check_rejects(
    inputs: Mapping[str, int], quarantined: Mapping[str, int], config: ConvertConfig, listed: str
) -> None:
    """Raises JobFailed if too many images were rejected, `quarantined` by reason; the file `listed` names them."""
    rejected, read = inputs["quarantined"], inputs["quarantined"] + inputs["written"]
    # Rounded up: one broken image in a small set must not fail the job.
    if rejected > math.ceil(Fraction(str(config.max_reject_fraction)) * read):  # in floats, 0.07 * 100 is above 7
        reasons = ", ".join(f"{count} {reason}" for reason, count in _most_first(quarantined))
        raise JobFailed(
            f"{rejected} of {read} images were rejected ({reasons}), more than --max_reject_fraction "
            f"{config.max_reject_fraction:g}; they are listed in {listed}. Nothing "
            "was published. Fix the images or raise the limit, and run again: finished shards are kept"
        )


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def quarantine_lines(results: Iterable[ShardResult]) -> str:
    """One JSON object per line, sorted by URI. Line breaks and quotes in names are escaped."""
    entries = sorted((entry for result in results for entry in result.quarantined), key=lambda entry: entry.uri)
    lines = ({name: value for name, value in entry._asdict().items() if name != "id"} for entry in entries)
    return "".join(json.dumps(line) + "\n" for line in lines)
