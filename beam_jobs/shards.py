"""Step 3: write one shard at a time, whole: read -> pixels -> record -> one finished file.

A shard is the unit of retry, of resuming and of progress. Its bytes follow from its inputs and the settings alone, so two
workers that write the same shard do no harm.
"""

import collections
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from beam_jobs import feedback, storage
from beam_jobs.config import ConvertConfig
from beam_jobs.decoder import Decode, decoder_of
from beam_jobs.isolation import IsolatedDecoder, attempt
from beam_jobs.plan import Plan
from beam_jobs.splits import Reference
from beam_jobs.threads import Pulse, StalledError, ordered_map, parts
from schemas.budget import Budget
from schemas.dataset import Shard, shard_name
from schemas.errors import one_line
from schemas.example import Example, encode_example, frame_record
from schemas.image import ImageRejected, ImageSkipped

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
    """One input that could not be converted, as quarantine.jsonl tells it."""

    uri: str
    checksum: str
    size: int
    stage: str
    reason: str
    detail: str
    format: str


class Converted(NamedTuple):
    """One input that became a record: the framed bytes, the class index and what is worth counting about it."""

    record: bytes
    label: int
    notes: tuple[str, ...]


class Skipped(NamedTuple):
    """One input that turned out, once read, to hold no image by its nature, such as a DICOM report."""

    reason: str


@dataclass(frozen=True)
class ShardResult:
    """A finished shard and what became of the inputs that fell into it."""

    split: str
    index: int
    shard: Shard
    quarantined: tuple[Quarantined, ...]
    skipped: dict[str, int]
    notes: dict[str, int]

    def to_json(self) -> str:
        """The text of the small file that marks a shard as finished."""
        return json.dumps(asdict(self))

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
        )


def write_shard(
    keyed: tuple[tuple[str, int], Iterable[Reference | None]],
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
        ordered = sorted((r for r in references if r is not None), key=lambda r: r.id)
        name = shard_name(prefix, split, index, plan.shards[split])
        mark = storage.join(work, f"{name}.{_inputs_hash(ordered, plan, config)}.json")
        finished = _finished(mark, work, config)
        if finished is not None:
            feedback.count_done(folder, len(ordered))
            return finished
        with attempt(work, f"{split}-{index}") as lost_before:
            result = _write(name, key, ordered, plan, config, work, folder, isolated=lost_before)
            with storage.writing(work):
                storage.write_bytes(mark, result.to_json().encode())
        return result


def shard_in_work(work: str, shard: Shard) -> str:
    """Where a finished shard waits to be published: under a name that only this content has."""
    return storage.join(work, f"{shard.file}.{shard.sha256[:16]}")


def _inputs_hash(references: list[Reference], plan: Plan, config: ConvertConfig) -> str:
    """Changes when anything that the shard's bytes follow from does, also a file replaced under the same name."""
    digest = hashlib.sha256(config.fingerprint().encode())
    digest.update(json.dumps(plan.classes).encode())
    for reference in references:
        digest.update(repr((reference.id, reference.group, *reference.source[1:])).encode("utf-8", "surrogateescape"))
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


def _write(
    name: str,
    key: tuple[str, int],
    references: list[Reference],
    plan: Plan,
    config: ConvertConfig,
    work: str,
    folder: str,
    isolated: bool,
) -> ShardResult:
    labels = [0] * len(plan.classes)
    notes: collections.Counter[str] = collections.Counter()
    skipped: collections.Counter[str] = collections.Counter()
    quarantined = []
    digest = hashlib.sha256()
    with storage.writing(storage.join(work, name)), storage.new_file(work) as file:
        for outcome in convert_all(references, plan, config, folder, isolated):
            if isinstance(outcome, Quarantined):
                quarantined.append(outcome)
            elif isinstance(outcome, Skipped):
                skipped[outcome.reason] += 1
            else:
                file.write(outcome.record)
                digest.update(outcome.record)
                labels[outcome.label] += 1
                notes.update(outcome.notes)
        shard = Shard(name, file.tell(), digest.hexdigest(), sum(labels), tuple(labels))
        storage.keep(file, shard_in_work(work, shard))
    return ShardResult(*key, shard, tuple(quarantined), dict(skipped), dict(notes))


def convert_all(
    references: list[Reference], plan: Plan, config: ConvertConfig, folder: str, isolated: bool
) -> Iterator[Converted | Quarantined | Skipped]:
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
) -> Iterator[list[Converted | Quarantined | Skipped]]:
    pulse = Pulse()

    def convert_part(part: range) -> list[Converted | Quarantined | Skipped]:
        outcomes = []
        for index in part:
            outcomes.append(convert_one(references[index], plan, decode))
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


def convert_one(reference: Reference, plan: Plan, decode: Decode) -> Converted | Quarantined | Skipped:
    """One input, from its bytes to its framed record, or why not. Reading errors of a single image are its own; a bucket
    that refuses access fails the job."""
    with _in_memory.take(reference.source.size):
        return _convert_one(reference, plan, decode)


def _convert_one(reference: Reference, plan: Plan, decode: Decode) -> Converted | Quarantined | Skipped:
    source = reference.source
    try:
        data = storage.read_bytes(source.uri, source.version)
    except FileNotFoundError:
        return _quarantined(
            reference, b"", "read", "missing", "no such file, or replaced since it was listed", "unknown"
        )
    except OSError as error:
        return _quarantined(reference, b"", "read", "unreadable", error.strerror or type(error).__name__, "unknown")
    try:
        image = decode(data)
    except ImageSkipped as error:
        return Skipped(error.reason.value)
    except ImageRejected as error:
        return _quarantined(reference, data, "decode", error.reason.value, error.detail, error.format)
    label = plan.classes.index(source.label)
    record = frame_record(encode_example(Example(image.pixels, label, reference.id, reference.group)))
    suffix = PurePosixPath(source.path).suffix.lower()
    mislabelled = suffix in _IMAGE_SUFFIXES and suffix not in _FORMAT_SUFFIXES.get(image.format, ())
    return Converted(record, label, (*image.notes, *(("mislabelled",) if mislabelled else ())))


def _quarantined(
    reference: Reference, data: bytes, stage: str, reason: str, detail: str, seen_format: str
) -> Quarantined:
    source = reference.source
    checksum = source.checksum or (f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}" if data else "")
    return Quarantined(source.uri, checksum, source.size, stage, reason, one_line(detail), seen_format)
