"""The images of one shard, from their bytes to framed records: read and decoded ahead on several threads."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import PurePosixPath

from beam_jobs import feedback, storage
from beam_jobs.config import ConvertConfig
from beam_jobs.decoder import Decode, decoder_of
from beam_jobs.isolation import IsolatedDecoder
from beam_jobs.near_duplicates import difference_hash
from beam_jobs.outcome import Converted, Outcome, Quarantined, Skipped
from beam_jobs.plan import Plan
from beam_jobs.splits import Reference
from beam_jobs.threads import Pulse, StalledError, ordered_map, parts
from schemas.budget import Budget
from schemas.errors import one_line
from schemas.example import Example, encode_example, frame_record
from schemas.image import MOST_BYTES, ImageRejected, ImageSkipped
from schemas.labels import encode_label

_READ_THREADS = 16  # a bucket answers in tens of milliseconds: that many requests at once keep the decoders busy
_PART = 16  # images that a thread takes at a time, where there are many: handing over small ones singly costs much
_BYTES_AT_A_TIME = 1 << 27  # of files that a worker's threads hold
_in_memory = Budget(_BYTES_AT_A_TIME)
_FORMAT_SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "webp": (".webp",),
    "gif": (".gif",),
    "dicom": (".dcm", ".dicom"),
}
_IMAGE_SUFFIXES = frozenset(suffix for suffixes in _FORMAT_SUFFIXES.values() for suffix in suffixes)


def convert_all(
    references: list[Reference], plan: Plan, config: ConvertConfig, folder: str, isolated: bool
) -> Iterator[Outcome]:
    """What becomes of each input, in order; read and decoded ahead on several threads. Where these get stuck in an image,
    or `isolated` says that an earlier worker was lost, the rest is decoded in a child process."""
    done = 0
    if not isolated:
        decode = decoder_of(config.image, config.dicom_decoder)
        with contextlib.suppress(StalledError):
            for outcomes in _convert_parts(references, plan, config, decode, _in_memory, config.decode_timeout):
                yield from outcomes
                done += len(outcomes)
                feedback.count_done(folder, len(outcomes))
    if done < len(references):
        in_memory = Budget(_BYTES_AT_A_TIME)  # of their own: threads that are stuck never give back what they took
        with IsolatedDecoder(config.image, config.dicom_decoder, config.decode_timeout) as decode:
            for outcomes in _convert_parts(references[done:], plan, config, decode, in_memory, None):
                yield from outcomes
                feedback.count_done(folder, len(outcomes))


def _convert_parts(
    references: list[Reference],
    plan: Plan,
    config: ConvertConfig,
    decode: Decode,
    in_memory: Budget,
    limit: float | None,
) -> Iterator[list[Outcome]]:
    pulse = Pulse()

    def convert_part(part: range) -> list[Outcome]:
        outcomes = []
        for index in part:
            with in_memory.take(max(0, references[index].source.size)):
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
    source = reference.source
    if source.size > MOST_BYTES:
        detail = f"{source.size >> 20} MiB; an image and what it takes to decode it must fit into {MOST_BYTES >> 20}"
        return _quarantined(reference, None, "read", "file_too_large", detail, "unknown")
    try:
        if source.size < 0:
            raise FileNotFoundError
        data = storage.read_bytes(source.uri, source.version)
    except FileNotFoundError:
        return _quarantined(
            reference, None, "read", "missing", "no file is there, or it was replaced since it was listed", "unknown"
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
