"""Step 3: write one shard at a time, whole: read -> pixels -> record -> one finished file.

A shard is the unit of retry, of resuming and of progress. Its bytes follow from its inputs and the settings alone, so two
workers that write the same shard do no harm.
"""

import collections
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from beam_jobs import feedback, storage
from beam_jobs.config import ConvertConfig
from beam_jobs.plan import Plan
from beam_jobs.splits import Reference
from schemas.dataset import Shard, shard_name
from schemas.errors import JobFailed, one_line
from schemas.example import Example, encode_example, frame_record
from schemas.image import ImageRejected, ImageSettings, ImageSkipped, decode
from schemas.labels import Label, encode_label, positives

_READ_THREADS = 16  # a bucket answers in tens of milliseconds: that many requests at once keep the decoders busy
_AHEAD = 2  # parts in flight per thread
_PART = 16  # images that a thread takes at a time, where there are many: handing over small ones singly costs much
_FORMAT_SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "webp": (".webp",),
    "gif": (".gif",),
}
_IMAGE_SUFFIXES = frozenset(suffix for suffixes in _FORMAT_SUFFIXES.values() for suffix in suffixes)

T = TypeVar("T")
R = TypeVar("R")


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
    """One input that became a record: the framed bytes, the label and what is worth counting about it."""

    record: bytes
    label: Label
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
    folder: str,
) -> ShardResult:
    """Writes the shard of one ((split, index), references) into the work folder and tells what became of its inputs;
    `folder` hears of the progress. A shard that an earlier run finished from the same inputs is kept."""
    key, references = keyed
    split, index = key
    with feedback.failures(folder):
        ordered = sorted((r for r in references if r is not None), key=lambda r: r.id)
        name = shard_name(prefix, split, index, plan.shards[split])
        mark = storage.join(config.work, f"{name}.{_inputs_hash(ordered, plan, config)}.json")
        finished = _finished(mark, config)
        if finished is not None:
            feedback.count_done(folder, len(ordered))
            return finished
        result = _write(name, key, ordered, plan, config, folder)
        storage.write_bytes(mark, result.to_json().encode())
        return result


def _inputs_hash(references: list[Reference], plan: Plan, config: ConvertConfig) -> str:
    """Changes when anything that the shard's bytes follow from does, also a file replaced under the same name."""
    digest = hashlib.sha256(config.fingerprint().encode())
    digest.update(json.dumps([plan.label_kind, *plan.classes]).encode())
    for reference in references:
        digest.update(repr((reference.id, reference.group, *reference.source[1:])).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _finished(mark: str, config: ConvertConfig) -> ShardResult | None:
    try:
        result = ShardResult.from_json(storage.read_bytes(mark).decode())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    for folder in (config.work, config.output):  # a run that was stopped while publishing has moved some already
        file = storage.stat(storage.join(folder, result.shard.file), "")
        if file is not None and file.size == result.shard.bytes:
            return result
    return None


def _write(
    name: str, key: tuple[str, int], references: list[Reference], plan: Plan, config: ConvertConfig, folder: str
) -> ShardResult:
    target = storage.join(config.work, name)
    if storage.is_remote(target):
        handle, local = tempfile.mkstemp(prefix="radrecords-", suffix=".tfrecord")
        os.close(handle)
    else:
        os.makedirs(config.work, exist_ok=True)
        local = storage.temporary_beside(target)
    examples, labels = 0, [0] * len(plan.classes)
    notes: collections.Counter[str] = collections.Counter()
    skipped: collections.Counter[str] = collections.Counter()
    quarantined = []
    digest = hashlib.sha256()
    try:
        with open(local, "wb") as file:
            for outcome in convert_all(references, plan, config, folder):
                if isinstance(outcome, Quarantined):
                    quarantined.append(outcome)
                elif isinstance(outcome, Skipped):
                    skipped[outcome.reason] += 1
                else:
                    file.write(outcome.record)
                    digest.update(outcome.record)
                    examples += 1
                    for index in positives(outcome.label):
                        labels[index] += 1
                    notes.update(outcome.notes)
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())  # the mark that says "finished" must not outlive the bytes in a crash
        storage.upload(local, target)
    except OSError as error:
        raise JobFailed(f"cannot write {target}: {error.strerror or error}; nothing was published") from error
    finally:
        if os.path.exists(local):
            os.unlink(local)
    shard = Shard(name, size, digest.hexdigest(), examples, tuple(labels))
    return ShardResult(*key, shard, tuple(quarantined), dict(skipped), dict(notes))


def convert_all(
    references: list[Reference], plan: Plan, config: ConvertConfig, folder: str
) -> Iterator[Converted | Quarantined | Skipped]:
    """What becomes of each input, in order; read and decoded ahead on several threads."""
    threads = thread_count(config)
    part = max(1, min(_PART, len(references) // (threads * _AHEAD)))

    def convert_part(start: int) -> list[Converted | Quarantined | Skipped]:
        return [convert_one(reference, plan, config.image) for reference in references[start : start + part]]

    for outcomes in ordered_map(convert_part, range(0, len(references), part), threads):
        yield from outcomes
        feedback.count_done(folder, len(outcomes))


def thread_count(config: ConvertConfig) -> int:
    """Threads that read and decode: one a processor on local files, more where each read waits for the network."""
    if config.threads:
        return config.threads
    cores = os.cpu_count() or 1
    return max(cores, _READ_THREADS) if storage.is_remote(config.input) else cores


def ordered_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """`map` on several threads, in order, with a bounded number of items in flight."""
    with ThreadPoolExecutor(threads) as pool:
        ahead: collections.deque[Future[R]] = collections.deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) >= threads * _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def convert_one(reference: Reference, plan: Plan, settings: ImageSettings) -> Converted | Quarantined | Skipped:
    """One input, from its bytes to its framed record, or why not. Reading errors of a single image are its own; a bucket
    that refuses access fails the job."""
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
        image = decode(data, settings)
    except ImageSkipped as error:
        return Skipped(error.reason.value)
    except ImageRejected as error:
        return _quarantined(reference, data, "decode", error.reason.value, error.detail, error.format)
    label = encode_label(source.label, plan.classes, plan.label_kind)
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
