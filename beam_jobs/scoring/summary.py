"""What a run of `beam_jobs.predict` prints: the plan and the summary."""

from collections.abc import Mapping
from typing import Any

from beam_jobs.publish.summary import class_counts, print_notes, reasons
from beam_jobs.scoring.config import ScoringConfig
from schemas.labels import CLASS
from schemas.scores import ScoresManifest


def print_plan(config: ScoringConfig, planned: Mapping[str, Any]) -> None:
    """Prints the plan for --dry_run."""
    images = sum(sum(counts.values()) for counts in planned["counts"].values())
    skipped = sum(planned["skipped"].values())
    print(f"would write scores of {images:,} images to {config.output}, {sum(planned['shards'].values()):,} shards")
    print(
        f"inputs: {images + skipped:,} listed = {images:,} to score + {skipped:,} skipped{reasons(planned['skipped'])}"
    )
    print_notes(planned["notes"])


def print_manifest(manifest: ScoresManifest, output: str) -> None:
    """Prints the summary of a run. The counts add up."""
    what = "class" if manifest.model["label_kind"] == CLASS else "finding"
    count = manifest.inputs
    print(f"published scores in {output}, by the model of SHA-256 {manifest.model['sha256']}")
    print(
        f"  {count['written']:,} images (by {what}: {class_counts(dict(manifest.predicted))}), {len(manifest.shards):,} "
        f"shards, {sum(shard.bytes for shard in manifest.shards):,} bytes"
    )
    print(
        f"inputs: {count['listed']:,} listed = {count['written']:,} written + {count['quarantined']:,} quarantined"
        f"{reasons(manifest.quarantined)} + {count['skipped']:,} skipped{reasons(manifest.skipped)}"
    )
    print_notes(manifest.notes)
