"""`--retry_quarantine DATASET`: a new version that reads again only what the old one quarantined.

The new version is planned like any other, from the whole listing, so splits, shards, duplicates and labels are what a full
conversion would give them. Only the writing differs: where the inputs of a shard, leaving out those that were quarantined,
are the ones from which an old shard was made, its records are taken over and merged, by id, with those of the images that
are read again. Where anything else has changed, the shard is made anew from its images.
"""

import argparse
import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from beam_jobs import storage
from beam_jobs.config import ConvertConfig
from beam_jobs.outcome import ShardResult
from beam_jobs.published import require_manifest
from beam_jobs.signature import signatures
from schemas.dataset import Manifest, Shard, check_name
from schemas.errors import UsageError
from schemas.example import decode_example, frame_record, read_records
from schemas.image_settings import ImageSettings
from schemas.labels import Label

REUSE = "reuse.json"
QUARANTINE = "quarantine.jsonl"
# What a new version takes over of the old one's settings beside those of its images: all that shapes a data set, and
# nothing that says where or whether to write.
_KEPT = (
    "preset",
    "classes",
    "multi_label",
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
    """A published shard, and what its inputs counted for beside its records."""

    shard: Shard
    skipped: Mapping[str, int]
    notes: Mapping[str, int]


class OldDataset(NamedTuple):
    """The URIs that a data set quarantined, and its shards by the hash of the inputs that they were made from."""

    folder: str
    fingerprint: str
    quarantined: frozenset[str]
    shards: Mapping[str, OldShard]


class Kept(NamedTuple):
    """A record of an old shard: its id, framed bytes, label and signature."""

    id: str
    record: bytes
    label: Label
    signature: bytes


def parse_with_settings(parser: argparse.ArgumentParser, argv: list[str], dataset: str) -> argparse.Namespace:
    """The flags, with the settings of `dataset` for all that are not given. Raises UsageError for one that is given and
    differs, and where `dataset` is not one that can be retried."""
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
                "settings; leave the flag out, or convert anew"
            )
    if keyed != bool(flags.id_key_file):
        have, repair = ("keyed", "give the same --id_key_file") if keyed else ("unkeyed", "leave out --id_key_file")
        raise UsageError(f"{dataset} has {have} ids; {repair}")
    if ("near_duplicates_check" in manifest.settings) != bool(flags.near_duplicates_of):
        made, repair = ("without", "leave it out") if flags.near_duplicates_of else ("with", "give the same")
        raise UsageError(f"{dataset} was made {made} --near_duplicates_of; {repair}")
    return flags


def _setting(name: str, manifest: Manifest, dataset: str) -> Any:
    value, default = manifest.settings[name], ConvertConfig.__dataclass_fields__[name].default
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)  # JSON knows no tuple
    if type(value) is not type(default) and not (type(value) is int and isinstance(default, float)):
        raise UsageError(f"{dataset}: its manifest gives {name} as {value!r}; convert anew without --retry_quarantine")
    return value


def check(config: ConvertConfig) -> None:
    """Raises UsageError where nothing of the old data set could be used, before a pipeline is started for it."""
    old = read_old_dataset(config.retry_quarantine)
    if old.fingerprint != config.fingerprint():
        raise UsageError(
            f"{old.folder} was made from another --input or --manifest or with another --id_key_file or "
            "--near_duplicates_of; give the same, or convert anew without --retry_quarantine"
        )


@functools.cache
def old_dataset(folder: str) -> OldDataset:
    """What the data set in `folder` has to offer; a worker process reads it once."""
    return read_old_dataset(folder)


def read_old_dataset(folder: str) -> OldDataset:
    """What the data set in `folder` has to offer. Raises UsageError where it lacks the files that say so."""
    manifest = require_manifest(folder)
    try:
        content = storage.read_bytes(storage.join(folder, REUSE))
        lines = storage.read_bytes(storage.join(folder, QUARANTINE))
    except FileNotFoundError as error:
        raise UsageError(f"{folder} lacks {REUSE} or {QUARANTINE}; convert anew without --retry_quarantine") from error
    try:
        return _old_dataset(folder, manifest, json.loads(content), [json.loads(line) for line in lines.splitlines()])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{folder}: {REUSE} or {QUARANTINE} is damaged ({type(error).__name__}); convert anew without --retry_quarantine"
        ) from error


def _old_dataset(folder: str, manifest: Manifest, content: Any, quarantined: list[Any]) -> OldDataset:
    published = {shard.file: shard for split in manifest.splits for shard in manifest.shards(split)}
    return OldDataset(
        folder,
        content["fingerprint"],
        frozenset(entry["uri"] for entry in quarantined),
        {
            inputs: OldShard(published[entry["file"]], dict(entry["skipped"]), dict(entry["notes"]))
            for inputs, entry in content["shards"].items()
        },
    )


def kept_records(folder: str, old: OldShard, image: ImageSettings) -> Iterator[Kept] | None:
    """The records of an old shard, in the order of their ids; None where it is not what the manifest says any more."""
    try:
        data = storage.read_bytes(storage.join(folder, old.shard.file))
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).hexdigest() != old.shard.sha256:
        return None
    return _records(data, image)


def _records(data: bytes, image: ImageSettings) -> Iterator[Kept]:
    for record in read_records(io.BytesIO(data)):
        example = decode_example(record, image.shape)
        (signed,) = signatures([example.image], image.letterboxed)
        yield Kept(example.id, frame_record(record), example.label, signed)


def reuse_json(fingerprint: str, results: Iterable[ShardResult]) -> str:
    """The text of reuse.json for these finished shards: hashes, names and counts; no path and no name of an input."""
    shards = {
        result.inputs: {"file": result.shard.file, "skipped": result.skipped, "notes": result.notes}
        for result in results
    }
    return json.dumps({"fingerprint": fingerprint, "shards": shards}, indent=1, sort_keys=True) + "\n"
