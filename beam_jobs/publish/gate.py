"""Account for every input, and refuse what must not be published."""

import collections
import json
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

from beam_jobs.elements import Plan, ShardResult
from beam_jobs.settings.config import ConvertConfig
from schemas.dataset import Manifest
from schemas.errors import JobFailed
from schemas.example import ONE_BYTE_LABELS, layout_of
from schemas.labels import CLASS


def account(results: list[ShardResult], plan: Plan, config: ConvertConfig, revision: int) -> Manifest:
    """The manifest of these shards. Raises JobFailed unless every input is accounted for exactly once."""
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
    return Manifest(
        name=config.name,
        version=config.version,
        revision=revision,
        classes=plan.classes,
        label_kind=plan.label_kind,
        image=config.image,
        inputs={
            "listed": written + len(quarantined) + plan.duplicates + skipped.total(),
            "written": written,
            "quarantined": len(quarantined),
            "duplicates": plan.duplicates,
            "skipped": skipped.total(),
        },
        skipped=skipped,
        quarantined=collections.Counter(entry.reason for entry in quarantined),
        notes=notes,
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
    rejected, read = manifest.inputs["quarantined"], manifest.inputs["quarantined"] + manifest.inputs["written"]
    # Rounded up: one broken image in a small set must not fail the job.
    if rejected > math.ceil(Fraction(str(config.max_reject_fraction)) * read):  # in floats, 0.07 * 100 is above 7
        reasons = ", ".join(f"{count} {reason}" for reason, count in _most_first(manifest.quarantined))
        raise JobFailed(
            f"{rejected} of {read} images were rejected ({reasons}), more than --max_reject_fraction "
            f"{config.max_reject_fraction:g}; they are listed in {listed}. Nothing "
            "was published. Fix the images or raise the limit, and run again: finished shards are kept"
        )
    for split in manifest.splits:
        if not manifest.examples(split):
            raise JobFailed(f"every image of the {split} split was rejected; nothing was published")


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def quarantine_lines(results: Iterable[ShardResult]) -> str:
    """One JSON object per line, sorted by URI. Line breaks and quotes in names are escaped."""
    entries = sorted((entry for result in results for entry in result.quarantined), key=lambda entry: entry.uri)
    lines = ({name: value for name, value in entry._asdict().items() if name != "id"} for entry in entries)
    return "".join(json.dumps(line) + "\n" for line in lines)
