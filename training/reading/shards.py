"""One shard -> a matrix of bytes with a row for each example, checked; without TensorFlow.

A shard whose records have the same length is such a matrix. Others, with source URIs, are parsed record by record into rows
of a fixed length.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import google_crc32c
import numpy as np

from schemas.dataset import Shard
from schemas.example import FRAME_BYTES, ID_LENGTH, DamagedRecord, decode_example, layout_of, read_records
from training.reading.disk_cache import DiskCache
from training.reading.files import ATTEMPTS, Bytes, Found, message, wait


class DamagedShard(ValueError):
    """A shard that is not what the manifest says, or cannot be read."""


@dataclass(frozen=True)
class Row:
    """Where the values of an example begin in its row, in bytes, and the type of a label's numbers."""

    bytes: int
    image: int
    label: int
    label_type: str
    id: int
    group: int


class Rows(Protocol):
    """A way to read shards."""

    row: Row

    def fill(self, shard: Shard, buffer: Bytes) -> None:
        """Fills a buffer of row.bytes for each example. Raises DamagedShard."""


class ArrayRows:
    """Shards that are matrices.

    `read`: reads the file of a shard into a buffer, and may raise OSError. What came from a bucket is checked each time, a
    local file when it is new or has changed. Shards are not mapped into memory: a file that is cut while it is mapped ends
    the process without a word.
    """

    def __init__(
        self, shape: tuple[int, int, int], label_width: int | None, read: Callable[[Shard, Bytes], Found]
    ) -> None:
        layout = layout_of(shape, label_width)
        self.row = Row(layout.record_bytes, layout.image, layout.label, "u1", layout.id, layout.group)
        self._read = read
        self._checked: dict[str, tuple[int, ...]] = {}

    def fill(self, shard: Shard, buffer: Bytes) -> None:
        """See Rows."""
        try:
            found = self._read(shard, buffer)
        except OSError as error:
            raise DamagedShard(f"{shard.file} cannot be read: {message(error)}") from error
        if found.size != shard.bytes or found.size != len(buffer):
            raise DamagedShard(f"{shard.file} has {found.size} bytes instead of {shard.bytes}")
        if found.stamp is not None and self._checked.get(shard.file) == found.stamp:
            return
        self.check(shard, buffer)
        if found.stamp is not None:
            self._checked[shard.file] = found.stamp

    def check(self, shard: Shard, buffer: Bytes) -> None:
        """Raises DamagedShard unless the buffer holds the shard. Manifests of earlier releases have no CRC32C, but a
        SHA-256, which takes longer."""
        lengths = np.ascontiguousarray(buffer.reshape(-1, self.row.bytes)[:, :8]).view("<u8")
        whole = np.all(lengths == self.row.bytes - FRAME_BYTES)
        if not whole or (shard.crc32c and f"{google_crc32c.value(buffer):08x}" != shard.crc32c):
            raise DamagedShard(f"{shard.file} has a different CRC32C")
        if not shard.crc32c and hashlib.sha256(buffer.data).hexdigest() != shard.sha256:
            raise DamagedShard(f"{shard.file} has a different SHA-256")


class CachedRows:
    """Shards that are matrices and are kept on the local disk too."""

    def __init__(self, rows: ArrayRows, source: Rows, cache: DiskCache) -> None:
        self.row = rows.row
        self._rows, self._source, self._cache = rows, source, cache

    def fill(self, shard: Shard, buffer: Bytes) -> None:
        """See Rows."""
        if self._cache.read_into(shard.sha256, buffer):
            with contextlib.suppress(DamagedShard):  # a cut or damaged file is replaced
                self._rows.check(shard, buffer)
                return
        self._source.fill(shard, buffer)
        self._cache.store(shard.sha256, buffer)


class PatientRows:
    """Shards of a bucket, each of which is read up to `attempts` times until it is right: bits flip under way, answers are
    cut, and a client retries only what it takes for a brief failure. A shard that is missing is not read again."""

    def __init__(self, rows: Rows, attempts: int = ATTEMPTS) -> None:
        self.row = rows.row
        self._rows, self._attempts = rows, attempts

    def fill(self, shard: Shard, buffer: Bytes) -> None:
        """See Rows."""
        for attempt in range(self._attempts):
            try:
                return self._rows.fill(shard, buffer)
            except DamagedShard as error:
                if isinstance(error.__cause__, FileNotFoundError) or attempt + 1 == self._attempts:
                    raise
            wait(attempt)
        return None


class ParsedRows:
    """Shards of any records. The checksums of every record are checked each time. `read` gives the content of a shard."""

    def __init__(self, shape: tuple[int, int, int], label_width: int | None, read: Callable[[Shard], bytes]) -> None:
        size = int(np.prod(shape))
        id = 8 * (label_width or 1)  # behind the label
        group, image = id + ID_LENGTH, id + 2 * ID_LENGTH
        self.row = Row(image + size, image, 0, "<i8", id, group)
        self._shape, self._read = shape, read

    def fill(self, shard: Shard, buffer: Bytes) -> None:
        """See Rows."""
        rows, count = buffer.reshape(-1, self.row.bytes), 0
        try:
            for record in read_records(io.BytesIO(self._read(shard))):
                if count < len(rows):
                    rows[count] = self._packed(record)
                count += 1
        except OSError as error:
            raise DamagedShard(f"{shard.file} cannot be read: {message(error)}") from error
        except (DamagedRecord, ValueError) as error:
            raise DamagedShard(f"{shard.file} is damaged: {error}") from error
        if count != len(rows):
            raise DamagedShard(f"{shard.file} has {count} examples instead of {len(rows)}")

    def _packed(self, record: bytes) -> Bytes:
        example = decode_example(record, self._shape)
        label = np.array(example.label, "<i8").tobytes()
        names = (example.id + example.group).encode("ascii")
        packed = b"".join((label, names, example.image.tobytes()))
        if len(packed) != self.row.bytes:
            raise DamagedRecord("an example of another kind")
        return np.frombuffer(packed, np.uint8)
