"""Reads the shards of a data set, record by record, because a shard may be larger than what a reader of a part of it
should hold."""

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import google_crc32c

from beam_jobs.storage import storage
from schemas.dataset import Manifest, Shard
from schemas.errors import JobFailed
from schemas.example import DamagedRecord, Example, decode_example, read_records


class ShardReader:
    """Reads a shard once, from its beginning; `bytes` and `sha256` cover what was read so far."""

    def __init__(self, file: BinaryIO, shape: tuple[int, int, int]) -> None:
        self._file, self._shape = file, shape
        self._digest, self._crc = hashlib.sha256(), google_crc32c.Checksum()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read so far, in hexadecimal."""
        return self._digest.hexdigest()

    @property
    def crc32c(self) -> str:
        """The CRC32C of what was read so far, in hexadecimal."""
        return str(self._crc.digest().hex())

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        data = self._file.read(size)
        self._digest.update(data)
        self._crc.update(data)
        self.bytes += len(data)
        return data

    def records(self) -> Iterator[tuple[bytes, Example]]:
        """Yields the data of each record and the Example that it holds. Raises DamagedRecord at the first damaged
        record."""
        for record in read_records(self):
            yield record, decode_example(record, self._shape)

    def skip_rest(self) -> None:
        """Reads to the end of the shard."""
        while self.read(1 << 20):
            pass


def read_examples(
    folder: str, manifest: Manifest, split: str, opened: Callable[[Shard], BinaryIO] | None = None
) -> Iterator[Example]:
    """The examples of a split in the order of its shards, which `opened` opens, if they may be elsewhere than in `folder`.
    Raises JobFailed, naming the shard, if one is missing or damaged."""
    for shard in manifest.shards(split):
        path = storage.join(folder, shard.file)
        try:
            with opened(shard) if opened else storage.open_binary(path) as file:
                for _, example in ShardReader(file, manifest.shape).records():
                    yield example
        except (FileNotFoundError, DamagedRecord) as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged: {error}"
            raise JobFailed(f"{path} {what}") from error
