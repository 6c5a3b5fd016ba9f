"""Step 4: account for every input, refuse what must not be used, and write the manifest last."""

import collections
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_jobs import feedback, storage
from beam_jobs.config import ConvertConfig
from beam_jobs.plan import Plan
from beam_jobs.preview import contact_sheet
from beam_jobs.shards import Quarantined, ShardResult
from schemas.dataset import MANIFEST, Manifest
from schemas.errors import JobFailed, UsageError
from schemas.example import decode_example, read_records
from schemas.interchange import interchange_files
from schemas.labels import Label, positives

_CLAIM = "settings.json"
_PREVIEW_EXAMPLES = 24  # of each class


@dataclass(frozen=True)
class Release:
    """Which publication of the folder this is. The shards of a later one bear its number, so that those of the one
    before stay readable until the manifest changes."""

    revision: int
    prefix: str


def begin(config: ConvertConfig) -> Release:
    """Claims the output folder for these settings. Raises UsageError where a data set is published there already, or
    where an unfinished conversion with other settings has begun there."""
    published = read_manifest(config.output)
    if published and not config.overwrite:
        raise UsageError(
            f"--output {config.output} holds a published data set already; give a new version folder, or --overwrite"
        )
    revision = published.revision + 1 if published else 1
    release = Release(revision, config.name if revision == 1 else f"{config.name}-r{revision}")
    claim = json.dumps({"fingerprint": config.fingerprint(), "revision": revision}).encode()
    try:
        storage.write_bytes(storage.join(config.work, _CLAIM), claim, create_only=True)
    except storage.AlreadyExistsError:
        if storage.read_bytes(storage.join(config.work, _CLAIM)) != claim:
            raise UsageError(
                f"{config.work} holds an unfinished conversion with other settings; finish it with its own flags, "
                "or delete that folder"
            ) from None
    except OSError as error:
        raise UsageError(f"--output {config.output} cannot be written: {error.strerror or error}") from error
    return release


def abandon(config: ConvertConfig) -> None:
    """Leaves nothing behind of a run that finished no shard."""
    if not any(".tfrecord-" in file.path for file in storage.list_files(config.work, config.work)):
        storage.delete_folder(config.work)
        storage.delete_if_empty(config.output)


def read_manifest(folder: str) -> Manifest | None:
    """The manifest in `folder`, or None where no data set is published there."""
    try:
        text = storage.read_bytes(storage.join(folder, MANIFEST)).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Manifest.from_json(text, folder)


def publish(
    _: Any, results: Iterable[ShardResult], plan: Plan, config: ConvertConfig, release: Release, folder: str
) -> None:
    """Gates, then moves the shards into place, writes what lies beside them and, last, the manifest."""
    with feedback.failures(folder):
        ordered = sorted(results, key=lambda result: (result.split, result.index))
        manifest = account(ordered, plan, config, release)
        gate(manifest, config)
        old = read_manifest(config.output)
        if (old.revision if old else 0) != release.revision - 1:
            raise JobFailed(f"{config.output} was published by another run meanwhile; this one changed nothing")
        try:
            _write(manifest, ordered, config, release)
        except storage.AlreadyExistsError as error:
            raise JobFailed(f"{config.output} was published by another run meanwhile") from error
        if old:
            kept = {shard.file for shards in manifest.splits.values() for shard in shards}
            for shard in (shard for shards in old.splits.values() for shard in shards):
                if shard.file not in kept:
                    storage.delete(storage.join(config.output, shard.file))
        storage.delete_folder(config.work)


def account(results: list[ShardResult], plan: Plan, config: ConvertConfig, release: Release) -> Manifest:
    """The manifest of these shards. Raises JobFailed where an input is not accounted for exactly once."""
    written = sum(result.shard.examples for result in results)
    quarantined = [entry for result in results for entry in result.quarantined]
    notes: collections.Counter[str] = collections.Counter()
    skipped_when_read: collections.Counter[str] = collections.Counter()
    for result in results:
        notes.update(result.notes)
        skipped_when_read.update(result.skipped)
    ended = written + len(quarantined) + skipped_when_read.total()
    if ended != plan.planned or len(results) != sum(plan.shards.values()):
        raise JobFailed(
            f"{plan.planned} images were planned and {ended} are accounted for; this is a bug, nothing was published"
        )
    skipped = collections.Counter(plan.skipped) + skipped_when_read
    return Manifest(
        name=config.name,
        version=config.version,
        revision=release.revision,
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
        settings={**config.settings(), "keyed_ids": False},
    )


def gate(manifest: Manifest, config: ConvertConfig) -> None:
    """Raises JobFailed where too many images were rejected, or where a split came out empty."""
    rejected, read = manifest.inputs["quarantined"], manifest.inputs["quarantined"] + manifest.inputs["written"]
    # Rounded up, so that the one broken image of a small set is quarantined like one of a million.
    if rejected > -(-config.max_reject_fraction * read // 1):
        reasons = ", ".join(f"{count} {reason}" for reason, count in _most_first(manifest.quarantined))
        raise JobFailed(
            f"{rejected} of {read} images were rejected ({reasons}), more than --max_reject_fraction "
            f"{config.max_reject_fraction:g}; nothing was published. Mend the images or allow more, and run again: "
            "finished shards are kept"
        )
    for split in manifest.splits:
        if not manifest.examples(split):
            raise JobFailed(f"every image of the {split} split was rejected; nothing was published")


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _write(manifest: Manifest, results: list[ShardResult], config: ConvertConfig, release: Release) -> None:
    def put(name: str, content: bytes, create_only: bool = False) -> None:
        storage.write_bytes(storage.join(config.output, name), content, create_only)

    for result in results:
        storage.move(storage.join(config.work, result.shard.file), storage.join(config.output, result.shard.file))
    for name, text in interchange_files(manifest, release.prefix).items():
        put(name, text.encode())
    put("quarantine.jsonl", quarantine_lines(entry for result in results for entry in result.quarantined).encode())
    put("preview.png", contact_sheet(preview_images(manifest, config.output)))
    put(MANIFEST, manifest.to_json().encode(), create_only=release.revision == 1)


def quarantine_lines(entries: Iterable[Quarantined]) -> str:
    """One JSON object a line, sorted by URI; any name is safe in it, with its line breaks and quotes escaped."""
    return "".join(json.dumps(entry._asdict()) + "\n" for entry in sorted(entries))


def preview_images(manifest: Manifest, folder: str) -> dict[str, list[npt.NDArray[np.uint8]]]:
    """The first examples of each class in the first split, as the shards hold them."""
    split = next(iter(manifest.splits))
    found: dict[str, list[npt.NDArray[np.uint8]]] = {name: [] for name in manifest.classes}
    wanted = dict(zip(manifest.classes, manifest.label_counts(split), strict=True))
    for image, label in _examples(manifest, split, folder):
        for index in positives(label):
            block = found[manifest.classes[index]]
            if len(block) < _PREVIEW_EXAMPLES:
                block.append(image)
        if all(len(found[name]) == min(count, _PREVIEW_EXAMPLES) for name, count in wanted.items()):
            break
    return {f"{name}  ({split}, {len(block)} of {wanted[name]:,})": block for name, block in found.items()}


def _examples(manifest: Manifest, split: str, folder: str) -> Iterator[tuple[npt.NDArray[np.uint8], Label]]:
    for shard in manifest.shards(split):
        with storage.open_binary(storage.join(folder, shard.file)) as file:  # a few records of perhaps 100 MiB
            for record in read_records(file):
                example = decode_example(record, manifest.shape)
                yield example.image, example.label
