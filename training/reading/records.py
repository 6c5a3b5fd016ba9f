"""A data set: opening the manifest, its splits, and checks of the shards; without TensorFlow."""

import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from schemas.dataset import MANIFEST, Manifest, Shard
from schemas.errors import JobFailed, UsageError
from schemas.example import DamagedRecord, decode_example, layout_of, read_records
from training.reading import files
from training.reading.arrays import READ_AHEAD_BYTES, Arrays
from training.reading.disk_cache import DiskCache
from training.reading.shards import ArrayRows, CachedRows, DamagedShard, ParsedRows, PatientRows, Rows
from training.task import task_of

LEAKAGE = "leakage.json"
READ_AT_ONCE = 16  # shards open at a time
READ_BYTES = 8 << 20  # of each
_CHECK_BYTES = 256 << 20  # of shards that are checked at a time


@dataclass(frozen=True)
class Split:
    """One split of a data set: its folder (local or gs://), its name, its shards, the shape of its images.

    label_width: the length of a label vector; None if a label is the index of one class. record_bytes: the length of every
    record; None if they differ or the manifest does not say.

    read_ahead_bytes: what is held at a time of a split that is not kept in memory. Examples are shuffled within half of it,
    so it determines their order, also of a split that is kept. disk_cache: keeps shards of a bucket. kept: the images and
    labels in memory, as array_batches.split_arrays gives them; None if they are to be read each time."""

    folder: str
    name: str
    shards: tuple[Shard, ...]
    shape: tuple[int, int, int]
    label_width: int | None = None
    record_bytes: int | None = None
    read_ahead_bytes: int = READ_AHEAD_BYTES
    disk_cache: DiskCache | None = None
    kept: tuple[files.Bytes, npt.NDArray[np.int64]] | None = field(default=None, repr=False, compare=False)

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
    path = f"{folder.rstrip('/')}/{MANIFEST}"
    try:
        text = files.read(path).decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"folder {folder} has no {MANIFEST}: it is not a published data set; "
            "make one with python -m beam_jobs.convert"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {files.message(error)}") from error
    return Manifest.from_json(text, folder)


def leakage_of(folder: str) -> dict[str, Any] | None:
    """The content of the data set's leakage.json; None if there is none to read."""
    try:
        content = json.loads(files.read(f"{folder.rstrip('/')}/{LEAKAGE}"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def open_split(
    folder: str,
    manifest: Manifest,
    name: str,
    read_ahead_bytes: int = READ_AHEAD_BYTES,
    disk_cache: DiskCache | None = None,
) -> Split:
    """The split `name` of the data set; see Split. Raises UsageError if it does not exist or is empty."""
    width = task_of(manifest).label_width
    split = Split(
        folder,
        name,
        manifest.shards(name),
        manifest.shape,
        width,
        manifest.record_bytes,
        read_ahead_bytes,
        disk_cache,
    )
    if not split.examples:
        raise UsageError(f"split {name} of {folder} is empty")
    return split


def all_splits(folder: str, manifest: Manifest) -> list[Split]:
    """Every split of the data set, including empty ones."""
    width = task_of(manifest).label_width
    length = manifest.record_bytes
    return [Split(folder, name, shards, manifest.shape, width, length) for name, shards in manifest.splits.items()]


def are_arrays(split: Split) -> bool:
    """Whether the shards are arrays by their sizes: whether no record holds more than an example without a source URI."""
    length = layout_of(split.shape, split.label_width).record_bytes
    return all(shard.bytes == shard.examples * length for shard in split.shards)


def arrays_of(split: Split) -> Arrays:
    """The shards as arrays; shards that are none are parsed record by record, and not kept on the disk."""
    rows: Rows
    remote = files.is_remote(split.folder)
    if are_arrays(split):
        whole = ArrayRows(
            split.shape, split.label_width, lambda shard, buffer: files.read_into(split.path(shard), buffer)
        )
        rows = PatientRows(whole) if remote else whole
        if remote and split.disk_cache:
            rows = CachedRows(whole, rows, split.disk_cache)
    else:
        rows = ParsedRows(split.shape, split.label_width, lambda shard: files.read(split.path(shard)))
        rows = PatientRows(rows) if remote else rows
    return Arrays(split.shards, split.shape, split.label_width, rows, split.read_ahead_bytes)


def unlisted_shards(folder: str, manifest: Manifest) -> list[str]:
    """The files in `folder` that look like shards but are not in the manifest. Nothing reads them."""
    try:
        return manifest.unlisted_shards(files.names(folder))
    except OSError as error:
        raise UsageError(f"cannot list {folder}: {files.message(error)}") from error


def check_shards(splits: Sequence[Split], checksums: bool = False) -> None:
    """Checks that every shard exists and has the manifest's size and, with `checksums`, which reads everything, its SHA-256.
    Raises JobFailed, naming each shard that does not match."""
    owners = [split for split in splits for _ in split.shards]
    shards = [shard for split in splits for shard in split.shards]
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:  # on gs:// each look is a request
        _report(splits, [fault for fault in pool.map(_size_fault, owners, shards) if fault])
    if checksums:
        largest = max((shard.bytes for shard in shards), default=0)
        with ThreadPoolExecutor(max(1, min(READ_AT_ONCE, _CHECK_BYTES // max(1, largest)))) as pool:
            _report(splits, [fault for fault in pool.map(_checksum_fault, owners, shards) if fault])


@contextmanager
def naming_damaged_shards(splits: Sequence[Split]) -> Iterator[None]:
    """Turns an error for a damaged shard into a JobFailed that names it: TensorFlow's errors do not."""
    try:
        yield
    except _damage() as error:
        # The first line; TensorFlow adds where it was raised, and a traceback.
        text = f"DamagedShard: {error}" if isinstance(error, DamagedShard) else str(error)
        said = re.search(r"DamagedShard: ((\S+) .*)", text)
        suspects = [(split, shard) for split in splits for shard in split.shards]
        if said:
            suspects = [(split, shard) for split, shard in suspects if shard.file == said.group(2)]
        _report(splits, [fault for split, shard in suspects if (fault := _fault(split, shard))])
        if said:
            raise JobFailed(f"{splits[0].folder}: {said.group(1)}; it can be read now, so start again") from error
        raise


def _damage() -> tuple[type[Exception], ...]:
    """What reading a damaged shard raises; TensorFlow, where it is used, has errors of its own."""
    if "tensorflow" not in sys.modules:
        return (DamagedShard,)
    errors = sys.modules["tensorflow"].errors
    # Truncated or changed records, too few or too many records, records with other content, a missing file.
    wrapped = (errors.DataLossError, errors.FailedPreconditionError, errors.InvalidArgumentError, errors.NotFoundError)
    return (DamagedShard, *wrapped)


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
        found = files.size(split.path(shard))
    except FileNotFoundError:
        return f"{shard.file} is missing"
    except OSError as error:
        return f"{shard.file} cannot be read ({files.message(error)})"
    return None if found == shard.bytes else f"{shard.file} has {found} bytes instead of {shard.bytes}"


def _checksum_fault(split: Split, shard: Shard) -> str | None:
    content = np.empty(shard.bytes, np.uint8)
    try:
        length = files.read_into(split.path(shard), content).size
    except OSError as error:
        return f"{shard.file} cannot be read ({files.message(error)})"
    if length != shard.bytes:
        return f"{shard.file} has {length} bytes instead of {shard.bytes}"
    return _other_checksum(shard, content)


def _fault(split: Split, shard: Shard) -> str | None:
    try:
        content = files.read(split.path(shard))
    except FileNotFoundError:
        return f"{shard.file} is missing"
    except OSError as error:
        return f"{shard.file} cannot be read ({files.message(error)})"
    return _other_records(split, shard, content) or _other_checksum(shard, content)


def _other_checksum(shard: Shard, content: bytes | files.Bytes) -> str | None:
    if hashlib.sha256(content if isinstance(content, bytes) else content.data).hexdigest() != shard.sha256:
        return f"{shard.file} has a different SHA-256"
    return (
        None if shard.crc32c in ("", f"{google_crc32c.value(content):08x}") else f"{shard.file} has a different CRC32C"
    )


def _other_records(split: Split, shard: Shard, content: bytes) -> str | None:
    found = 0
    try:
        for record in read_records(io.BytesIO(content)):
            decode_example(record, split.shape)
            found += 1
    except DamagedRecord:
        return f"{shard.file} is damaged after {found} examples"
    return None if found == shard.examples else f"{shard.file} has {found} examples instead of {shard.examples}"
