"""Accounts for every image, refuses what must not be published, and publishes scores as a conversion publishes records."""

from collections.abc import Iterable
from typing import Any

from beam_jobs.elements import Plan, ShardResult
from beam_jobs.passing import status
from beam_jobs.publish.gate import check_rejects, count_ended, quarantine_lines
from beam_jobs.publish.publish import put_in_place
from beam_jobs.publish.releases import Release
from beam_jobs.scoring.config import ScoringConfig
from beam_jobs.storage import storage
from beam_jobs.write.reuse import QUARANTINE
from schemas.errors import JobFailed
from schemas.scores import ScoresManifest, columns_of


def publish(
    _: Any,
    results: Iterable[ShardResult],
    plan: Plan,
    config: ScoringConfig,
    release: Release,
    status_folder: str,
) -> None:
    """Checks the gate, moves the shards into place, and writes quarantine.jsonl and, last, the manifest."""
    with status.failures(status_folder, to_launcher=config.local):
        ordered = sorted(results, key=lambda result: result.index)
        manifest = account(ordered, plan, config, release.revision)
        quarantine = quarantine_lines(ordered).encode()
        listed = storage.join(release.work, QUARANTINE)
        if quarantine:  # for people to look at if the gate fails the job
            storage.write_bytes(listed, quarantine)
        check_rejects(manifest.inputs, manifest.quarantined, config, listed)
        if not manifest.inputs["written"]:
            raise JobFailed(f"every image was rejected; they are listed in {listed}; nothing was published")
        with storage.writing(config.output):
            put_in_place(manifest, ordered, lambda: [(QUARANTINE, quarantine)], config, release)


def account(results: list[ShardResult], plan: Plan, config: ScoringConfig, revision: int) -> ScoresManifest:
    """The manifest of these shards. Raises JobFailed unless every input is accounted for exactly once."""
    ended = count_ended(results, plan)
    predicted = [sum(counts) for counts in zip(*(result.shard.label_counts for result in results), strict=True)]
    return ScoresManifest(
        revision=revision,
        model=config.model_entries,
        file_format=config.format,
        columns=columns_of(plan.classes, plan.label_kind, config.include_source_uri),
        inputs={name: number for name, number in ended.inputs.items() if name != "duplicates"},  # each is scored
        skipped=ended.skipped,
        quarantined=ended.quarantined,
        notes=ended.notes,
        predicted=dict(zip(plan.classes, predicted, strict=True)),
        shards=tuple(result.shard for result in results),
        settings={**config.settings(), "keyed_ids": bool(config.id_key_file)},
    )
