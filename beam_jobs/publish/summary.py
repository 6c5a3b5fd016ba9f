"""What a conversion prints: the plan and the summary."""

from collections.abc import Mapping
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_jobs.passing.counters import DECODE_MICROSECONDS, FILE_BYTES, Counted
from beam_jobs.settings import costs
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.write.trial import Rate
from schemas.dataset import Manifest
from schemas.example import record_bytes
from schemas.labels import CLASS, class_totals


def print_plan(config: ConvertConfig, planned: dict[str, Any]) -> None:
    """Prints the plan for --dry_run: counts by split and class, shards and bytes."""
    classes = tuple(planned["classes"])
    size = planned_record_bytes(config, planned)
    print(f"would write {config.name} {config.version} to {config.output}")
    for split, labels in planned["counts"].items():
        examples = sum(labels.values())
        by_class = class_counts(class_totals(labels, classes))
        print(
            f"  {split:<11}{examples:>11,} images ({by_class}), {planned['shards'][split]} shards, "
            f"{'more than ' if config.include_source_uri else ''}{examples * size:,} bytes"
        )
    skipped = sum(planned["skipped"].values())
    total = sum(sum(labels.values()) for labels in planned["counts"].values())
    print(
        f"inputs: {total + planned['duplicates'] + skipped:,} listed = {total:,} to convert "
        f"+ {planned['duplicates']:,} duplicates + {skipped:,} skipped{reasons(planned['skipped'])}"
    )
    print_notes(planned["notes"])


def planned_record_bytes(config: ConvertConfig, planned: Mapping[str, Any]) -> int:
    """The size of a record in bytes, without --include_source_uri."""
    return record_bytes(config.image.shape, 0 if planned["label_kind"] == CLASS else (0,) * len(planned["classes"]))


def print_estimate(
    config: ConvertConfig,
    planned: Mapping[str, Any],
    kind: costs.Kind,
    rate: Rate,
    written_bytes: float,
    prices: costs.Prices,
) -> None:
    """Prints what the job would cost on Dataflow, for --dry_run. `written_bytes`: for each image."""
    if not rate.images_per_cpu_second:
        print(f"estimate: none, because none of {rate.images} images that were tried could be decoded")
        return
    images = sum(sum(labels.values()) for labels in planned["counts"].values())
    usage = costs.Usage(
        kind=kind,
        images=images,
        listed=images + planned["duplicates"] + sum(planned["skipped"].values()),
        shards=sum(planned["shards"].values()),
        read_bytes=planned["input_bytes"],
        written_bytes=round(images * written_bytes),
        images_per_cpu_second=rate.images_per_cpu_second,
    )
    print(f"estimate for Dataflow and Cloud Storage, at prices of {prices.date} ({config.prices or 'us-central1'}):")
    print(*costs.lines(usage, prices), sep="\n")
    print(f"  images per CPU second: measured on {rate.images} of these images, on this machine")


def print_counted(counted: Counted | None) -> None:
    """Prints what Beam counted in this run (passing/counters.py)."""
    if counted is None:
        print("this run: its engine reports no counters")
        return
    number = counted.counters.get
    text = f"this run: {number('shards_written', 0):,} shards written ({number('bytes_written', 0):,} bytes)"
    if kept := number("shards_kept"):
        text += f", {kept:,} kept from an earlier run"
    if files := counted.distributions.get(FILE_BYTES):
        text += f"; {files.number:,} images read ({number('bytes_read', 0):,} bytes, {files.least:,} to {files.most:,} each)"
    if decode := counted.distributions.get(DECODE_MICROSECONDS):
        mean, least, most = (value / 1000 for value in (decode.total / decode.number, decode.least, decode.most))
        text += f", decoded in {mean:.2f} ms each ({least:.2f} to {most:.2f})"
    print(text)


def print_manifest(manifest: Manifest, output: str) -> None:
    """Prints the summary of a run. The counts add up."""
    print(f"published {manifest.name} {manifest.version} in {output}")
    for split in manifest.splits:
        labels = dict(zip(manifest.classes, manifest.label_counts(split), strict=True))
        split_shards = manifest.shards(split)
        print(
            f"  {split:<11}{manifest.examples(split):>11,} examples ({class_counts(labels)}), {len(split_shards)} shards, "
            f"{sum(shard.bytes for shard in split_shards):,} bytes"
        )
    count = manifest.inputs
    print(
        f"inputs: {count['listed']:,} listed = {count['written']:,} written "
        f"+ {count['quarantined']:,} quarantined{reasons(manifest.quarantined)} "
        f"+ {count['duplicates']:,} duplicates + {count['skipped']:,} skipped{reasons(manifest.skipped)}"
    )
    print_notes(manifest.notes)


def print_template(options: GoogleCloudOptions) -> None:
    """Prints how to run the template that was staged instead of running the job."""
    place = options.template_location
    print(
        f"staged a template at {place}; nothing was converted. Run it with: gcloud dataflow jobs run NAME "
        f"--gcs-location={place} --region={options.region} --project={options.project}"
    )


def print_notes(notes: Mapping[str, int]) -> None:
    """Prints notes on converted images, such as names that do not match the content."""
    if notes:
        print(f"noted: {', '.join(f'{number:,} {note}' for note, number in sorted(notes.items()))}")


def class_counts(labels: dict[str, int]) -> str:
    """`NORMAL 3, PNEUMONIA 5`."""
    return ", ".join(f"{name} {count:,}" for name, count in labels.items())


def reasons(counts: Any) -> str:
    """` (2 hidden, 1 unlabelled)`, or nothing."""
    return f" ({', '.join(f'{count:,} {reason}' for reason, count in sorted(counts.items()))})" if counts else ""
