"""The images of one shard, from their bytes to framed records: read on threads, decoded in child processes."""

import collections
import contextlib
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath

from beam_jobs.decoding.decoder import decode
from beam_jobs.elements import Converted, Outcome, Plan, Quarantined, Reference, Skipped
from beam_jobs.leakage.signature import signatures
from beam_jobs.passing import status
from beam_jobs.passing.counters import Measured
from beam_jobs.settings.config import ConvertConfig, most_bytes
from beam_jobs.storage import storage
from beam_jobs.write.image_counts import counts_of_file, counts_of_pixels
from schemas.decoders.pool import BATCH_BYTES, BATCH_IMAGES, cores
from schemas.decoders.process import Answer
from schemas.errors import JobFailed, one_line
from schemas.example import Example, encode_example, frame_record
from schemas.labels import encode_label
from schemas.pixels.rejection import Decoded, ImageRejected, ImageSkipped
from schemas.pixels.sniff import FORMATS

_LARGE_BYTES = 64 << 20
_large_files = threading.BoundedSemaphore(2)  # threads of a worker that may hold large files at a time
_IMAGE_SUFFIXES = frozenset(suffix for format in FORMATS.values() for suffix in format.suffixes)


def convert_all(
    references: list[Reference], plan: Plan, config: ConvertConfig, status_folder: str, measured: Measured
) -> Iterator[Outcome]:
    """The Outcome of each input, in order. Threads read ahead, child processes decode. Adds what that took to
    `measured`."""
    batches = batches_of(references)
    threads = thread_count(config)
    with ThreadPoolExecutor(threads, "read") as executor:
        ahead: collections.deque[Future[list[Outcome]]] = collections.deque()
        try:
            for batch in batches:
                ahead.append(executor.submit(convert_batch, batch, plan, config, measured))
                if len(ahead) > 2 * threads:
                    yield from _finished(ahead, status_folder)
            while ahead:
                yield from _finished(ahead, status_folder)
        finally:
            for future in ahead:
                future.cancel()


def _finished(ahead: "collections.deque[Future[list[Outcome]]]", status_folder: str) -> list[Outcome]:
    try:
        outcomes = ahead.popleft().result()
    except OSError as error:  # the caller would take an OSError for a write error
        raise JobFailed(
            f"cannot read or decode images: {error.strerror or error}; run again: finished shards are kept"
        ) from error
    status.count_done(status_folder, len(outcomes))
    return outcomes


def batches_of(references: list[Reference]) -> Iterator[list[Reference]]:
    """The references in order, in lists as large as one request to a decoder."""
    batch: list[Reference] = []
    size = 0
    for reference in references:
        size += max(0, reference.source.size)
        if batch and (size > BATCH_BYTES or len(batch) == BATCH_IMAGES):
            yield batch
            batch, size = [], max(0, reference.source.size)
        batch.append(reference)
    if batch:
        yield batch


def thread_count(config: ConvertConfig) -> int:
    """The number of reading threads: one more than there are decoders for local files, and more if each read waits for
    the network."""
    if config.threads:
        return config.threads
    local = (config.decoders or cores()) + 1
    return max(local, storage.reads_at_once(config.input))


def convert_batch(batch: list[Reference], plan: Plan, config: ConvertConfig, measured: Measured) -> list[Outcome]:
    """The Outcome of some inputs: a framed record, or why there is none. Adds what that took to `measured`."""
    large = sum(reference.source.size for reference in batch) > _LARGE_BYTES
    with _large_files if large else contextlib.nullcontext():
        found = [_read(reference, config) for reference in batch]
        answers = decode([data for data in found if isinstance(data, bytes)], config)
        images = [answer for answer in answers if isinstance(answer, Decoded)]
        measured.file_bytes.extend([len(data) for data in found if isinstance(data, bytes)])
        measured.decode_microseconds.extend([image.microseconds for image in images])
        signed = iter(signatures([image.pixels for image in images], config.image.letterboxed))
        decoded = iter(answers)
        return [
            data if isinstance(data, Quarantined) else _outcome(reference, data, next(decoded), signed, plan, config)
            for reference, data in zip(batch, found, strict=True)
        ]


def _read(reference: Reference, config: ConvertConfig) -> bytes | Quarantined:
    """The file's bytes. An error of one file quarantines it; a bucket that refuses access fails the job."""
    source = reference.source
    if source.size > most_bytes(config):
        detail = (
            f"{source.size >> 20} MiB; --decoder_memory {config.decoder_memory} has room for {most_bytes(config) >> 20}"
        )
        return _quarantined(reference, None, "read", "file_too_large", detail, "unknown")
    try:
        if source.size < 0:
            raise FileNotFoundError
        return storage.read_bytes(source.uri, source.version)
    except FileNotFoundError:
        return _quarantined(
            reference, None, "read", "missing", "no file is there, or it was replaced since it was listed", "unknown"
        )
    except OSError as error:
        return _quarantined(reference, None, "read", "unreadable", error.strerror or type(error).__name__, "unknown")


def _outcome(
    reference: Reference, data: bytes, image: Answer, signed: Iterator[bytes], plan: Plan, config: ConvertConfig
) -> Outcome:
    source = reference.source
    if isinstance(image, ImageSkipped):
        return Skipped(image.reason.value)
    if isinstance(image, ImageRejected):
        return _quarantined(reference, data, "decode", image.reason.value, image.detail, image.format)
    label = encode_label(source.label, plan.classes, plan.label_kind)
    uri = source.uri if config.include_source_uri else None
    record = frame_record(encode_example(Example(image.pixels, label, reference.id, reference.group, uri)))
    suffix = PurePosixPath(source.path).suffix.lower()
    mislabelled = suffix in _IMAGE_SUFFIXES and suffix not in FORMATS[image.format].suffixes
    notes = (*image.notes, *(("mislabelled",) if mislabelled else ()))
    counts = counts_of_pixels(image.pixels) + counts_of_file(image.format, image.size)
    return Converted(record, label, notes, reference.id, next(signed), counts)


def _quarantined(
    reference: Reference, data: bytes | None, stage: str, reason: str, detail: str, seen_format: str
) -> Quarantined:
    source = reference.source
    read = "" if data is None else f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"
    size = source.size if source.size >= 0 else None
    detail = one_line(detail)
    return Quarantined(source.uri, source.checksum or read, size, stage, reason, detail, seen_format, reference.id)
