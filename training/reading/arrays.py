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

    def part(self, start: int, end: int) -> "Chunk":
        """The examples from `start` to `end`."""
        return Chunk(self.images[start:end], self.labels[start:end], self.ids[start:end])


class Arrays:
    """The shards of a split as matrices uint8 [examples, record_bytes].

    `shape` and `label_width`: of an example. `read`: gives the bytes of a shard. Each shard is checked when it is read
    for the first time. Not mapped into memory: a file that is cut while it is mapped ends the process without a word.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        shape: tuple[int, int, int],
        label_width: int | None,
        read: Callable[[Shard], bytes],
    ) -> None:
        self._shards, self._shape, self._label_width, self._read = shards, shape, label_width, read
        self._layout = layout_of(shape, label_width)
        self._image_bytes = int(np.prod(shape))
        self._checked: set[int] = set()

    def chunks(self, seed: int | None, epoch: int, multiple: int = 1) -> Iterator[Chunk]:
        """All examples once: in the order of (seed, epoch), or as stored without a seed. A chunk holds a multiple of
        `multiple` examples, except for the last of a window. Raises DamagedShard."""
        size = max(1, CHUNK_BYTES // self._image_bytes // multiple) * multiple
        plan = list(windows(self._shards, seed, epoch))
        with ThreadPoolExecutor(READ_AT_ONCE, "shard") as pool:
            following = self._ahead(plan[:1], pool)
            for number, window in enumerate(plan):
                opened = [future.result() for future in following]
                following = self._ahead(plan[number + 1 : number + 2], pool)
                starts = np.cumsum([0, *map(len, opened)])
                for at in range(0, len(window.rows), size):
                    yield self._gathered(opened, starts, window.rows[at : at + size])

    def are_new(self, shards: Sequence[int]) -> bool:
        """Whether one of these shards has not been checked yet."""
        return not self._checked.issuperset(shards)

    def check(self, shards: Rows, contents: Sequence[bytes]) -> bool:
        """Checks the size, the CRC32C and the lengths of the records of shards that have not been checked yet, and gives
        True.
        Raises DamagedShard."""
        for index, content in zip(map(int, shards), contents, strict=True):
            if index not in self._checked:
                self._check(self._shards[index], content)
                self._checked.add(index)
        return True

    def _check(self, shard: Shard, content: bytes) -> None:
        if len(content) != shard.bytes:
            raise DamagedShard(f"{shard.file} has {len(content)} bytes instead of {shard.bytes}")
        lengths = np.ascontiguousarray(self._matrix(content)[:, :8]).view("<u8")
        whole = np.all(lengths == self._layout.record_bytes - FRAME_BYTES)
        if not whole or f"{google_crc32c.value(content):08x}" != shard.crc32c:
            raise DamagedShard(f"{shard.file} has a different CRC32C")

    def _ahead(self, some: "list[Window]", pool: ThreadPoolExecutor) -> "list[Future[Bytes]]":
        return [pool.submit(self._opened, index) for window in some for index in window.shards]

    def _opened(self, index: int) -> Bytes:
        shard = self._shards[index]
        try:
            content = self._read(shard)
        except OSError as error:
            raise DamagedShard(f"{shard.file} cannot be read: {error.strerror or error}") from error
        self.check(np.array([index]), [content])
        if len(content) != shard.bytes:
            raise DamagedShard(f"{shard.file} has changed")
        return self._matrix(content)

    def _matrix(self, content: bytes) -> Bytes:
        return np.frombuffer(content, np.uint8).reshape(-1, self._layout.record_bytes)

    def _gathered(self, opened: Sequence[Bytes], starts: Rows, rows: Rows) -> Chunk:
        layout, width = self._layout, self._label_width or 1
        parts = ((layout.image, self._image_bytes), (layout.label, width), (layout.id, ID_LENGTH))
        found = [np.empty((len(rows), length), np.uint8) for _, length in parts]
        owners = np.searchsorted(starts, rows, side="right") - 1
        for owner, matrix in enumerate(opened):
            mine = np.flatnonzero(owners == owner)
            local = rows[mine] - starts[owner]
            for part, (start, length) in zip(found, parts, strict=True):
                part[mine] = matrix[local, start : start + length]
        images, labels, ids = found
        of_kind = labels.astype(np.int64)
        return Chunk(
            images.reshape(-1, *self._shape),
            of_kind if self._label_width else of_kind[:, 0],
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
    some: list[int] = []
    for index in order:
        some.append(index)
        if index == order[-1] or sum(shards[one].bytes for one in some) >= WINDOW_BYTES:
            count = sum(shards[one].examples for one in some)
            yield Window(tuple(some), np.arange(count) if random is None else random.permutation(count))
            some = []
