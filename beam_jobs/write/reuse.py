"""`--retry_quarantine DATASET`: a new version that reads again only what the old one quarantined.

The new version is planned from the whole listing, so splits, shards, duplicates and labels are those of a full
conversion. Only the writing differs. If the inputs of a shard, without those that were quarantined, are the inputs of
an old shard, the old records are kept and merged, by id, with the records of the images that are read again. If
anything else has changed, the shard is made from its images.
"""

import argparse
import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from beam_jobs.elements import ShardResult
from beam_jobs.leakage.signature import signatures
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import ShardReader
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage
from beam_jobs.write.image_counts import PAGE, Counts, counts_of_pixels, empty_table, of_shards
from schemas.dataset import Manifest, Shard, check_name
from schemas.errors import UsageError
from schemas.example import frame_record
from schemas.labels import Label
from schemas.pixels.settings import PixelSettings

REUSE = "reuse.json"
QUARANTINE = "quarantine.jsonl"
# The settings that a new version takes over, besides those of the images: all that shape a data set, and none that says
# where or whether to write.
_KEPT = (
    "preset",
    "classes",
    "multi_label",
    "uncertain",
    "view",
    "group_pattern",
    "validation_fraction",
    "test_fraction",
    "sample_fraction",
    "limit",
    "shards",
    "seed",
    "allow_group_overlap",
    "include_source_uri",
    "dicom_decoder",
)


class OldShard(NamedTuple):
    """A published shard, the counts of its inputs that did not become records, and what the page of the data set counted
    in the files of those that did (zeros if the data set has no such page)."""

    shard: Shard
    skipped: Mapping[str, int]
    notes: Mapping[str, int]
    counts: Counts


class OldDataset(NamedTuple):
    """The URIs that a data set quarantined, and its shards by the hash of their inputs."""

    folder: str
    fingerprint: str
    quarantined: frozenset[str]
    shards: Mapping[str, OldShard]


class Kept(NamedTuple):
    """A record of an old shard: its id, framed bytes, label and signature, and the counts of its pixels."""

    id: str
    record: bytes
    label: Label
    signature: bytes
    counts: Counts


def parse_with_settings(parser: argparse.ArgumentParser, argv: list[str], dataset: str) -> argparse.Namespace:
    """The flags, with the settings of `dataset` as defaults. Raises UsageError if a flag differs from them, or if `dataset`
    cannot be retried."""
    manifest = require_manifest(dataset)
    keyed = manifest.settings.get("keyed_ids") is True
    settings = {name: _setting(name, manifest, dataset) for name in _KEPT if name in manifest.settings}
    settings |= asdict(manifest.image) | {"name": check_name(str(manifest.name))}
    parser.set_defaults(**settings)
    flags, _ = parser.parse_known_args(argv)
    for name, value in settings.items():
        if getattr(flags, name) != value:
            raise UsageError(
                f"--{name} {getattr(flags, name)}: {dataset} was made with {value}, and --retry_quarantine keeps its "
                "settings; omit the flag, or convert without --retry_quarantine"
            )
    if keyed != bool(flags.id_key_file):
        have, repair = ("keyed", "give the same --id_key_file") if keyed else ("unkeyed", "omit --id_key_file")
        raise UsageError(f"{dataset} has {have} ids; {repair}")
    if ("near_duplicates_check" in manifest.settings) != bool(flags.near_duplicates_of):
        made, repair = ("without", "omit it") if flags.near_duplicates_of else ("with", "give the same")
        raise UsageError(f"{dataset} was made {made} --near_duplicates_of; {repair}")
    return flags


def _setting(name: str, manifest: Manifest, dataset: str) -> Any:
    value, default = manifest.settings[name], ConvertConfig.__dataclass_fields__[name].default
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)  # JSON has no tuples
    if type(value) is not type(default) and not (type(value) is int and isinstance(default, float)):
        raise UsageError(
            f"{dataset}: its manifest has an invalid {name} ({value!r}); convert without --retry_quarantine"
        )
    return value


def check(config: ConvertConfig) -> None:
    """Raises UsageError, before a pipeline starts, if nothing of the old data set could be used."""
    old = read_old_dataset(config.retry_quarantine)
    if old.fingerprint != config.fingerprint():
        raise UsageError(
            f"{old.folder} was made with a different --input, --manifest, --id_key_file or "
            "--near_duplicates_of; give the same ones, or convert without --retry_quarantine"
        )


@functools.cache
def old_dataset(folder: str) -> OldDataset:
    """The OldDataset in `folder`; a worker process reads it once."""
    return read_old_dataset(folder)


def read_old_dataset(folder: str) -> OldDataset:
    """The OldDataset in `folder`. Raises UsageError if it lacks reuse.json or quarantine.jsonl."""
    manifest = require_manifest(folder)
    try:
        content = storage.read_bytes(storage.join(folder, REUSE))
        lines = storage.read_bytes(storage.join(folder, QUARANTINE))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} lacks {REUSE} or {QUARANTINE}; convert without --retry_quarantine") from error
    try:
        return _old_dataset(folder, manifest, json.loads(content), [json.loads(line) for line in lines.splitlines()])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{folder}: {REUSE} or {QUARANTINE} is damaged ({type(error).__name__}); convert without --retry_quarantine"
        ) from error


def _old_dataset(folder: str, manifest: Manifest, content: Any, quarantined: list[Any]) -> OldDataset:
    published = {shard.file: shard for split in manifest.splits for shard in manifest.shards(split)}
    counted, unknown = _counts_of_files(folder, manifest), empty_table(len(manifest.classes))

    def old_shard(file: str, skipped: Mapping[str, int], notes: Mapping[str, int]) -> OldShard:
        return OldShard(published[file], dict(skipped), dict(notes), counted.get(file, unknown))

    return OldDataset(
        folder,
        content["fingerprint"],
        frozenset(entry["uri"] for entry in quarantined),
        {
            inputs: old_shard(entry["file"], entry["skipped"], entry["notes"])
            for inputs, entry in content["shards"].items()
        },
    )


def _counts_of_files(folder: str, manifest: Manifest) -> Mapping[str, Counts]:
    try:
        page = storage.read_bytes(storage.join(folder, PAGE))
    except FileNotFoundError:  # of an earlier release
        return {}
    return of_shards(page, len(manifest.classes))


def kept_records(folder: str, old: OldShard, image: PixelSettings) -> Iterator[Kept] | None:
    """The records of an old shard, in the order of their ids; None if it no longer matches the manifest."""
    try:
        # Read as a whole, because nothing of a shard is used before its SHA-256 is known, and it is fetched only once.
        data = storage.read_bytes(storage.join(folder, old.shard.file))
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).hexdigest() != old.shard.sha256:
        return None
    return _records(data, image)


def _records(data: bytes, image: PixelSettings) -> Iterator[Kept]:
    for record, example in ShardReader(io.BytesIO(data), image.shape).records():
        (signed,) = signatures([example.image], image.letterboxed)
        yield Kept(example.id, frame_record(record), example.label, signed, counts_of_pixels(example.image))


def reuse_json(fingerprint: str, results: Iterable[ShardResult]) -> str:
    """The text of reuse.json for these finished shards: hashes, names of shards and counts, but no path or name of an
    input."""
    shards = {
        result.inputs: {"file": result.shard.file, "skipped": result.skipped, "notes": result.notes}
        for result in results
    }
    return json.dumps({"fingerprint": fingerprint, "shards": shards}, indent=1, sort_keys=True) + "\n"
