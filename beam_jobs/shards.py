"""Step 3: write one shard at a time, whole: read -> pixels -> record -> one finished file.

A shard is the unit of retry, of resuming and of progress. Its bytes follow from its inputs and the settings alone, so two
workers that write the same shard do no harm.
"""

import base64
import collections
import contextlib
import hashlib
import hmac
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import NamedTuple, TypeAlias

from beam_jobs import feedback, retry, storage
from beam_jobs.blocks import Block
from beam_jobs.config import ConvertConfig
from beam_jobs.decoder import Decode, decoder_of
from beam_jobs.id_key import id_key
from beam_jobs.isolation import IsolatedDecoder, attempt
from beam_jobs.near_duplicates import difference_hash, hashed
from beam_jobs.plan import Plan
from beam_jobs.splits import Reference
from beam_jobs.threads import Pulse, StalledError, ordered_map, parts
from schemas.budget import Budget
from schemas.dataset import Shard, shard_name
from schemas.errors import one_line
from schemas.example import Example, encode_example, frame_record
from schemas.image import ImageRejected, ImageSkipped
from schemas.labels import Label, encode_label, positives

_READ_THREADS = 16  # a bucket answers in tens of milliseconds: that many requests at once keep the decoders busy
_PART = 16  # images that a thread takes at a time, where there are many: handing over small ones singly costs much
_in_memory = Budget(1 << 28)  # bytes of files that a worker's threads hold at a time
_FORMAT_SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "webp": (".webp",),
    "gif": (".gif",),
}
_IMAGE_SUFFIXES = frozenset(suffix for suffixes in _FORMAT_SUFFIXES.values() for suffix in suffixes)


class Quarantined(NamedTuple):
    """One input that could not be converted, as quarantine.jsonl tells it. checksum: "" where it could not be read. size:
    None for a file that is not there."""

    uri: str
    checksum: str
    size: int | None
    stage: str
    reason: str
    detail: str
    format: str


class Converted(NamedTuple):
    """One input that became a record: the framed bytes, the label, what is worth counting about it, its id and the
    difference hash of its pixels."""

    record: bytes
    label: Label
    notes: tuple[str, ...]
    id: str
    hash: int


class Skipped(NamedTuple):
    """One input that turned out, once read, to hold no image by its nature, such as a DICOM report."""

    reason: str


Outcome: TypeAlias = Converted | Quarantined | Skipped


@dataclass(frozen=True)
class ShardResult:
    """A finished shard and what became of the inputs that fell into it. `inputs`: a hash of those that were not
    quarantined. `hashes`: the difference hashes of its records, as near_duplicates.HASHED rows."""

    split: str
    index: int
    shard: Shard
    quarantined: tuple[Quarantined, ...]
    skipped: dict[str, int]
    notes: dict[str, int]
    inputs: str
    hashes: bytes = b""

    def to_json(self) -> str:
        """The text of the small file that marks a shard as finished."""
        return json.dumps({**asdict(self), "hashes": base64.b64encode(self.hashes).decode()})

    @classmethod
    def from_json(cls, text: str) -> "ShardResult":
        """The inverse of to_json."""
        content = json.loads(text)
        shard = content["shard"]
        return cls(
            split=content["split"],
            index=content["index"],
            shard=Shard(**{**shard, "label_counts": tuple(shard["label_counts"])}),
            quarantined=tuple(Quarantined(*entry) for entry in content["quarantined"]),
            skipped=content["skipped"],
            notes=content["notes"],
            inputs=content["inputs"],
            hashes=base64.b64decode(content["hashes"]),
        )


def write_shard(
    keyed: tuple[tuple[str, int], Iterable[Block[Reference]]],
    plan: Plan,
    config: ConvertConfig,
    prefix: str,
    work: str,
    folder: str,
) -> ShardResult:
    """Writes the shard of one ((split, index), references) into the folder `work` and tells what became of its inputs;
    `folder` hears of the progress. A shard that an earlier run finished from the same inputs is kept."""
    key, references = keyed
    split, index = key
    with feedback.failures(folder):
        ordered = sorted(itertools.chain.from_iterable(references), key=lambda reference: reference.id)
        name = shard_name(prefix, split, index, plan.shards[split])
        mark = storage.join(work, f"{name}.{_inputs_hash(ordered, plan, config)}.json")
        finished = _finished(mark, work, config)
        if finished is not None:
            feedback.count_done(folder, len(ordered))
            return finished
        with attempt(work, f"{split}-{index}") as lost_before:
            result = None
            if config.retry_quarantine:
                result = _retried(name, key, ordered, plan, config, work, folder, lost_before)
            if result is None:
                outcomes = convert_all(ordered, plan, config, folder, isolated=lost_before)
                result = _write(name, key, ordered, outcomes, plan, config, work)
            with storage.writing(work):
                storage.write_bytes(mark, result.to_json().encode())
        return result


def hashes_of(result: ShardResult) -> tuple[str, bytes]:
    """The split of a shard and the difference hashes of its records, on their way to the search for near-duplicates."""
    return result.split, result.hashes


def without_hashes(result: ShardResult) -> ShardResult:
    """The result as it is gathered with all others in one worker, without the part that grows with its records."""
    return replace(result, hashes=b"")


def shard_in_work(work: str, shard: Shard) -> str:
    """Where a finished shard waits to be published: under a name that only this content has."""
    return storage.join(work, f"{shard.file}.{shard.sha256[:16]}")


def _inputs_hash(references: list[Reference], plan: Plan, config: ConvertConfig) -> str:
    """Changes when anything that the shard's bytes follow from does, also a file replaced under the same name."""
    # Keyed like the ids: it is published, and without a key somebody could try whether a guessed input gives it.
    digest = hmac.new(id_key(config), config.fingerprint().encode(), hashlib.sha256)
    digest.update(json.dumps([plan.label_kind, *plan.classes]).encode())
    for reference in references:
        # Not the checksum: a local listing has it or not, by whether another file happens to be of the same size.
        source = reference.source._replace(uri="", checksum="")
        digest.update(repr((reference.id, reference.group, *source)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _finished(mark: str, work: str, config: ConvertConfig) -> ShardResult | None:
    try:
        result = ShardResult.from_json(storage.read_bytes(mark).decode())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    # A run that was stopped while publishing has moved some already.
    for place in (shard_in_work(work, result.shard), storage.join(config.output, result.shard.file)):
        file = storage.stat(place, "")
        if file is not None and file.size == result.shard.bytes:
            return result
    return None


def _retried(
    name: str,
    key: tuple[str, int],
    references: list[Reference],
    plan: Plan,
    config: ConvertConfig,
    work: str,
    folder: str,
    isolated: bool,
) -> ShardResult | None:
    """Writes the shard from the old data set's records and from those images only that it quarantined; None where it has
    no whole shard that was made from the other inputs."""
    old = retry.old_dataset(config.retry_quarantine)
    again = [reference for reference in references if reference.source.uri in old.quarantined]
    others = [reference for reference in references if reference.source.uri not in old.quarantined]
    found = old.shards.get(_inputs_hash(others, plan, config))
    kept = retry.kept_records(old.folder, found, config.image.shape) if found else None
    if found is None or kept is None:
        return None
    feedback.count_done(folder, len(others))
    outcomes = merge(references, kept, again, convert_all(again, plan, config, folder, isolated))
    result = _write(name, key, references, outcomes, plan, config, work)
    return replace(
        result,
        skipped=dict(collections.Counter(result.skipped) + collections.Counter(found.skipped)),
        notes=dict(collections.Counter(result.notes) + collections.Counter(found.notes)),
    )


def merge(
    references: list[Reference], kept: Iterator[retry.Kept], again: list[Reference], converted: Iterator[Outcome]
) -> Iterator[Outcome]:
    """Old records and new outcomes in the order of the references. An input with neither was skipped: no image."""
    retried = {reference.id for reference in again}
    record = next(kept, None)
    for reference in references:
        if reference.id in retried:
            yield next(converted)
        elif record is not None and record.id == reference.id:
            yield Converted(record.record, record.label, (), record.id, record.hash)
            record = next(kept, None)


def _write(
    name: str,
    key: tuple[str, int],
    references: list[Reference],
    outcomes: Iterator[Outcome],
    plan: Plan,
    config: ConvertConfig,
    work: str,
) -> ShardResult:
    labels = [0] * len(plan.classes)
    notes: collections.Counter[str] = collections.Counter()
    skipped: collections.Counter[str] = collections.Counter()
    quarantined = []
    digest = hashlib.sha256()
    hashes: list[int] = []
    ids: list[str] = []
    with storage.writing(storage.join(work, name)), storage.new_file(work) as file:
        for outcome in outcomes:
            if isinstance(outcome, Quarantined):
                quarantined.append(outcome)
            elif isinstance(outcome, Skipped):
                skipped[outcome.reason] += 1
            else:
                file.write(outcome.record)
                digest.update(outcome.record)
                for index in positives(outcome.label):
                    labels[index] += 1
                notes.update(outcome.notes)
                hashes.append(outcome.hash)
                ids.append(outcome.id)
        shard = Shard(name, file.tell(), digest.hexdigest(), len(ids), tuple(labels))
        storage.keep(file, shard_in_work(work, shard))
    bad = {entry.uri for entry in quarantined}
    inputs = _inputs_hash([reference for reference in references if reference.source.uri not in bad], plan, config)
    blob = hashed(hashes, ids).tobytes()
    return ShardResult(*key, shard, tuple(quarantined), dict(skipped), dict(notes), inputs, blob)


def convert_all(
    references: list[Reference], plan: Plan, config: ConvertConfig, folder: str, isolated: bool
) -> Iterator[Outcome]:
    """What becomes of each input, in order; read and decoded ahead on several threads. Where these get stuck in an image,
    or `isolated` says that an earlier worker was lost, the rest is decoded in a child process."""
    done = 0
    if not isolated:
        decode = decoder_of(config.image, config.dicom_decoder)
        with contextlib.suppress(StalledError):
            for outcomes in _convert_parts(references, plan, config, decode, config.decode_timeout):
                yield from outcomes
                done += len(outcomes)
                feedback.count_done(folder, len(outcomes))
    if done < len(references):
        with IsolatedDecoder(config.image, config.dicom_decoder, config.decode_timeout) as decode:
            for outcomes in _convert_parts(references[done:], plan, config, decode, None):
                yield from outcomes
                feedback.count_done(folder, len(outcomes))


def _convert_parts(
    references: list[Reference], plan: Plan, config: ConvertConfig, decode: Decode, limit: float | None
) -> Iterator[list[Outcome]]:
    pulse = Pulse()

    def convert_part(part: range) -> list[Outcome]:
        outcomes = []
        for index in part:
            outcomes.append(convert_one(references[index], plan, config, decode))
            pulse.beat()
        return outcomes

    threads = thread_count(config)
    return ordered_map(convert_part, parts(len(references), threads, _PART), threads, pulse, limit)


def thread_count(config: ConvertConfig) -> int:
    """Threads that read and decode: one a processor on local files, more where each read waits for the network."""
    if config.threads:
        return config.threads
    cores = os.cpu_count() or 1
    return max(cores, _READ_THREADS) if storage.is_remote(config.input) else cores


def convert_one(reference: Reference, plan: Plan, config: ConvertConfig, decode: Decode) -> Outcome:
    """One input, from its bytes to its framed record, or why not. Reading errors of a single image are its own; a bucket
    that refuses access fails the job."""
    with _in_memory.take(reference.source.size):
        return _convert_one(reference, plan, config, decode)


def _convert_one(reference: Reference, plan: Plan, config: ConvertConfig, decode: Decode) -> Outcome:
    source = reference.source
    try:
        data = storage.read_bytes(source.uri, source.version)
    except FileNotFoundError:
        return _quarantined(
            reference, None, "read", "missing", "no such file, or replaced since it was listed", "unknown"
        )
    except OSError as error:
        return _quarantined(reference, None, "read", "unreadable", error.strerror or type(error).__name__, "unknown")
    try:
        image = decode(data)
    except ImageSkipped as error:
        return Skipped(error.reason.value)
    except ImageRejected as error:
        return _quarantined(reference, data, "decode", error.reason.value, error.detail, error.format)
    label = encode_label(source.label, plan.classes, plan.label_kind)
    uri = source.uri if config.include_source_uri else None
    record = frame_record(encode_example(Example(image.pixels, label, reference.id, reference.group, uri)))
    suffix = PurePosixPath(source.path).suffix.lower()
    mislabelled = suffix in _IMAGE_SUFFIXES and suffix not in _FORMAT_SUFFIXES.get(image.format, ())
    notes = (*image.notes, *(("mislabelled",) if mislabelled else ()))
    return Converted(record, label, notes, reference.id, difference_hash(image.pixels))


def _quarantined(
    reference: Reference, data: bytes | None, stage: str, reason: str, detail: str, seen_format: str
) -> Quarantined:
    source = reference.source
    read = "" if data is None else f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"
    size = source.size if source.size >= 0 else None
    return Quarantined(source.uri, source.checksum or read, size, stage, reason, one_line(detail), seen_format)
