"""The records of a data set: opening the manifest, checking the shards and parsing records."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import google_crc32c
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from schemas import example
from schemas.dataset import MANIFEST, Manifest, Shard
from schemas.errors import JobFailed, UsageError
from schemas.example import layout_of
from training.reading.arrays import Arrays, DamagedShard
from training.task import task_of

READ_AT_ONCE = 16  # shards open at a time
READ_BYTES = 8 << 20  # of each

# Truncated or changed records, too few or too many records, records with other content, a missing file.
_errors = tf.errors
DAMAGE = (_errors.DataLossError, _errors.FailedPreconditionError, _errors.InvalidArgumentError, _errors.NotFoundError)


@dataclass(frozen=True)
class Split:
    """One split of a data set: its folder (local or gs://), its name, its shards, the shape of its images.

    label_width: the length of a label vector; None if a label is the index of one class. record_bytes: the length of every
    record; None if they differ or the manifest does not say."""

    folder: str
    name: str
    shards: tuple[Shard, ...]
    shape: tuple[int, int, int]
    label_width: int | None = None
    record_bytes: int | None = None

    @property
    def examples(self) -> int:
        return sum(shard.examples for shard in self.shards)

    @property
    def image_bytes(self) -> int:
        return self.examples * int(np.prod(self.shape))

    def path(self, shard: Shard) -> str:
        return f"{self.folder.rstrip('/')}/{shard.file}"


def open_dataset(folder: str) -> Manifest:
    """The manifest of the data set in `folder`. Raises UsageError if there is none to read."""
    # TensorFlow reads these once, at the first access to gs://. Its default block of 64 MiB is allocated for every open
    # file: over 1 GiB for the shards that are read at a time.
    os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", str(READ_BYTES >> 20))
    path = f"{folder.rstrip('/')}/{MANIFEST}"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            text = file.read().decode("utf-8", errors="replace")
    except tf.errors.NotFoundError as error:
        raise UsageError(
            f"folder {folder} has no {MANIFEST}: it is not a published data set; "
            "make one with python -m beam_jobs.convert"
        ) from error
    except tf.errors.OpError as error:
        raise UsageError(f"cannot read {path}: {error.message}") from error
    return Manifest.from_json(text, folder)


def open_split(folder: str, manifest: Manifest, name: str) -> Split:
    """The split `name` of the data set. Raises UsageError if it does not exist or is empty."""
    split = Split(
        folder, name, manifest.shards(name), manifest.shape, task_of(manifest).label_width, manifest.record_bytes
    )
    if not split.examples:
        raise UsageError(f"split {name} of {folder} is empty")
    return split


def all_splits(folder: str, manifest: Manifest) -> list[Split]:
    """Every split of the data set, including empty ones."""
    width = task_of(manifest).label_width
    length = manifest.record_bytes
    return [Split(folder, name, shards, manifest.shape, width, length) for name, shards in manifest.splits.items()]


def arrays_of(split: Split) -> Arrays | None:
    """The shards as arrays; None if their manifest does not say that they are arrays."""
    layout = layout_of(split.shape, split.label_width)
    if split.record_bytes != layout.record_bytes or not all(shard.crc32c for shard in split.shards):
        return None
    return Arrays(
        split.shards, split.shape, split.label_width, lambda shard, buffer: _read_into(split.path(shard), buffer)
    )


def _read_into(path: str, buffer: npt.NDArray[np.uint8]) -> int:
    """Fills a buffer that is as large as the file should be, and gives the size that the file has."""
    if "://" not in path:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            view = buffer.data
            while count := file.readinto(view):
                view = view[count:]
            return size
    try:
        with tf.io.gfile.GFile(path, "rb") as remote:
            content: bytes = remote.read()
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
    if len(content) == len(buffer):
        buffer[:] = np.frombuffer(content, np.uint8)
    return len(content)


def unlisted_shards(folder: str, manifest: Manifest) -> list[str]:
    """The files in `folder` that look like shards but are not in the manifest. Nothing reads them."""
    try:
        return manifest.unlisted_shards(tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise UsageError(f"cannot list {folder}: {error.message}") from error


def check_shards(splits: Sequence[Split], checksums: bool = False) -> None:
    """Checks that every shard exists and has the manifest's size and, with `checksums`, which reads everything, its SHA-256.
    Raises JobFailed, naming each shard that does not match."""
    owners = [split for split in splits for _ in split.shards]
    shards = [shard for split in splits for shard in split.shards]
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:  # on gs:// each look is a request
        _report(splits, [fault for fault in pool.map(_size_fault, owners, shards) if fault])
        if checksums:
            _report(splits, [fault for fault in pool.map(_checksum_fault, owners, shards) if fault])


@contextmanager
def naming_damaged_shards(splits: Sequence[Split]) -> Iterator[None]:
    """Turns an error for a damaged shard into a JobFailed that names it: TensorFlow's errors do not."""
    try:
        yield
    except (*DAMAGE, DamagedShard):
        _report(splits, [fault for split in splits for shard in split.shards if (fault := _fault(split, shard))])
        raise


def _fault(split: Split, shard: Shard) -> str | None:
    return _read_fault(split, shard) or _size_fault(split, shard) or _checksum_fault(split, shard)


def parse_records(records: tf.Tensor, split: Split) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Images uint8 [batch, *shape], labels int64 [batch] or [batch, label_width] and ids string [batch] of `records`, string
    [batch].

    One call for a whole batch: seven times as fast as one for each record.
    """
    features = tf.io.parse_example(
        records,
        {
            example.IMAGE: tf.io.FixedLenFeature([], tf.string),
            example.LABEL: tf.io.FixedLenFeature([] if split.label_width is None else [split.label_width], tf.int64),
            example.ID: tf.io.FixedLenFeature([], tf.string),
        },
    )
    pixels = tf.io.decode_raw(features[example.IMAGE], tf.uint8)
    return tf.reshape(pixels, [-1, *split.shape]), features[example.LABEL], features[example.ID]


def _report(splits: Sequence[Split], faults: Sequence[str]) -> None:
    if faults:
        promised = {shard for shards in open_dataset(splits[0].folder).splits.values() for shard in shards}
        if not promised.issuperset(shard for split in splits for shard in split.shards):
            raise JobFailed(f"{splits[0].folder} has been overwritten since it was opened ({faults[0]}); start again")
        raise JobFailed(
            f"{splits[0].folder}: {len(faults)} shard(s) do not match {MANIFEST}: {'; '.join(faults)}; "
            "copy or convert the data set again"
        )


def _size_fault(split: Split, shard: Shard) -> str | None:
    try:
        found = tf.io.gfile.stat(split.path(shard)).length
    except tf.errors.NotFoundError:
        return f"{shard.file} is missing"
    except tf.errors.OpError as error:
        return f"{shard.file} cannot be read ({error.message})"
    return None if found == shard.bytes else f"{shard.file} has {found} bytes instead of {shard.bytes}"


def _checksum_fault(split: Split, shard: Shard) -> str | None:
    digest, crc = hashlib.sha256(), google_crc32c.Checksum()
    try:
        with tf.io.gfile.GFile(split.path(shard), "rb") as file:
            while part := file.read(READ_BYTES):
                digest.update(part)
                crc.update(part)
    except tf.errors.OpError as error:
        return f"{shard.file} cannot be read ({error.message})"
    if digest.hexdigest() != shard.sha256:
        return f"{shard.file} has a different SHA-256"
    return None if shard.crc32c in ("", crc.digest().hex()) else f"{shard.file} has a different CRC32C"


def _read_fault(split: Split, shard: Shard) -> str | None:
    found = 0
    try:
        for records in tf.data.TFRecordDataset(split.path(shard)).batch(1024):
            parse_records(records, split)
            found += len(records)
    except tf.errors.NotFoundError:
        return f"{shard.file} is missing"
    except tf.errors.OpError:
        return f"{shard.file} is damaged after about {found} examples"
    return None if found == shard.examples else f"{shard.file} has {found} examples instead of {shard.examples}"
