"""Shards as arrays, without TensorFlow: all records of a data set have the same length, so a shard is a matrix of bytes.

The order of an epoch is a function of the seed and the epoch alone: the shards are shuffled and cut into windows of about
WINDOW_BYTES, and the records of a window are shuffled together. A split that fits into one window is shuffled as a whole.
While one window is used, the next one is read.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

from schemas.dataset import Shard
from schemas.example import FRAME_BYTES, ID_LENGTH, layout_of

WINDOW_BYTES = 128 << 20
STORED_BYTES = 16 << 20  # of a window that is not shuffled: enough to read ahead
CHUNK_BYTES = 8 << 20  # of images that are gathered at a time
READ_AT_ONCE = 16  # shards

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class DamagedShard(ValueError):
    """A shard that is not what the manifest says, or cannot be read."""


class Chunk(NamedTuple):
    """Examples in the order of an epoch: images uint8 [chunk, height, width, channels], labels int64 [chunk] or [chunk,
    label_width], ids bytes [chunk] of ID_LENGTH characters."""

    images: Bytes
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]

    def part(self, start: int, end: int | None) -> "Chunk":
        """The examples from `start` to `end`."""
        return Chunk(self.images[start:end], self.labels[start:end], self.ids[start:end])

    def followed_by(self, other: "Chunk") -> "Chunk":
        """The examples of both."""
        return Chunk(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.ids, other.ids]),
        )


class Arrays:
    """The shards of a split as matrices uint8 [examples, record_bytes].

    `shape` and `label_width`: of an example. `read`: reads a shard into a buffer and gives the number of bytes that the
    shard has. Each shard is checked when it is read for the first time. Shards are not mapped into memory: a file that
    is cut while it is mapped ends the process without a word.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        shape: tuple[int, int, int],
        label_width: int | None,
        read: Callable[[Shard, Bytes], int],
    ) -> None:
        self._shards, self._shape, self._label_width, self._read = shards, shape, label_width, read
        self._layout = layout_of(shape, label_width)
        self._checked: set[int] = set()
        self._spare: list[Bytes] = []  # a new buffer costs as much as filling it

    def chunks(self, seed: int | None, epoch: int) -> Iterator[Chunk]:
        """All examples once: in the order of (seed, epoch), or as stored without a seed. Raises DamagedShard."""
        size = max(1, CHUNK_BYTES // int(np.prod(self._shape)))
        plan = list(windows(self._shards, seed, epoch))
        with ThreadPoolExecutor(READ_AT_ONCE, "shard") as pool:
            following = [self._begun(window, pool) for window in plan[:1]]
            for number, window in enumerate(plan):
                buffer, parts = following.pop()
                for part in parts:
                    part.result()
                following += [self._begun(after, pool) for after in plan[number + 1 : number + 2]]
                matrix = buffer[: self._bytes(window)].reshape(-1, self._layout.record_bytes)
                for at in range(0, len(window.rows), size):
                    yield self._gathered(matrix, window.rows[at : at + size])
                self._spare.append(buffer)

    def _bytes(self, window: "Window") -> int:
        return sum(self._shards[index].bytes for index in window.shards)

    def _begun(self, window: "Window", pool: ThreadPoolExecutor) -> "tuple[Bytes, list[Future[None]]]":
        """A buffer, and what fills it with the shards of the window."""
        length = self._bytes(window)
        buffer = self._spare.pop() if self._spare else np.empty(0, np.uint8)
        if len(buffer) < length:
            buffer = np.empty(length, np.uint8)
        parts, start = [], 0
        for index in window.shards:
            end = start + self._shards[index].bytes
            parts.append(pool.submit(self._fill, index, buffer[start:end]))
            start = end
        return buffer, parts

    def _fill(self, index: int, buffer: Bytes) -> None:
        """Reads a shard into its part of a buffer, and checks it if it is new."""
        shard = self._shards[index]
        try:
            length = self._read(shard, buffer)
        except OSError as error:
            raise DamagedShard(f"{shard.file} cannot be read: {error.strerror or error}") from error
        if length != shard.bytes:
            raise DamagedShard(f"{shard.file} has {length} bytes instead of {shard.bytes}")
        if index in self._checked:
            return
        matrix = buffer.reshape(-1, self._layout.record_bytes)
        lengths = np.ascontiguousarray(matrix[:, :8]).view("<u8")
        whole = np.all(lengths == self._layout.record_bytes - FRAME_BYTES)
        if not whole or f"{google_crc32c.value(buffer):08x}" != shard.crc32c:
            raise DamagedShard(f"{shard.file} has a different CRC32C")
        self._checked.add(index)

    def _gathered(self, matrix: Bytes, rows: Rows) -> Chunk:
        layout, width = self._layout, self._label_width or 1
        images = matrix[rows, layout.image : layout.image + int(np.prod(self._shape))]
        labels = matrix[rows, layout.label : layout.label + width].astype(np.int64)
        ids = matrix[rows, layout.id : layout.id + ID_LENGTH]
        return Chunk(
            images.reshape(-1, *self._shape),
            labels if self._label_width else labels[:, 0],
            ids.view(f"S{ID_LENGTH}")[:, 0],
        )


class Window(NamedTuple):
    """Shards whose records are shuffled together, as indices, and the order of their records, counted over these shards."""

    shards: tuple[int, ...]
    rows: Rows


def windows(shards: Sequence[Shard], seed: int | None, epoch: int) -> Iterator[Window]:
    """The windows of an epoch, which hold every record once."""
    # RandomState: NumPy promises its numbers for all versions (NEP 19).
    random = None if seed is None else np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch])))
    order = [index for index, shard in enumerate(shards) if shard.examples]
    if random is not None:
        order = random.permutation(order).tolist()
    most = WINDOW_BYTES if random is not None else STORED_BYTES
    some: list[int] = []
    size = 0
    for index in order:
        some.append(index)
        size += shards[index].bytes
        if index == order[-1] or size >= most:
            count = sum(shards[one].examples for one in some)
            yield Window(tuple(some), np.arange(count) if random is None else random.permutation(count))
            some, size = [], 0
