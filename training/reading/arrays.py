"""The examples of a split in the order of an epoch, from shards as matrices of bytes, without TensorFlow.

The order is a function of the seed, the epoch and the size of a window: the shards are shuffled and cut into windows, and
the records of a window are shuffled together. A split that fits into one window is shuffled as a whole. A window is read
while the one before is used. Each holds about half of READ_AHEAD_BYTES, and up to a shard more, as it holds whole shards;
there are up to four: one that is read, and three that the consumer and TensorFlow use or have not given back.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.dataset import Shard
from schemas.example import ID_LENGTH
from training.reading.buffers import Buffers, Bytes
from training.reading.shards import Rows

READ_AHEAD_BYTES = 64 << 20
STORED_BYTES = 16 << 20  # of a window that is not shuffled, at most: enough to read ahead
READ_AT_ONCE = 16  # shards of a bucket
LOCAL_AT_ONCE = 4  # each takes new memory of its size, which costs more than the wait for a disk

Indices = npt.NDArray[np.int64]


class Chunk(NamedTuple):
    """Examples: images uint8 [chunk, height, width, channels], labels int64 [chunk] or [chunk, label_width], ids and groups
    (patients) bytes [chunk] of ID_LENGTH characters."""

    images: Bytes
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]
    groups: npt.NDArray[np.bytes_]

    def taken(self, rows: Indices) -> "Chunk":
        """The examples in `rows`, in that order."""
        return Chunk(self.images[rows], self.labels[rows], self.ids[rows], self.groups[rows])


class Arrays:
    """The shards of a split. `shape` and `label_width`: of an example. `rows`: reads and checks a shard.
    `read_ahead_bytes`: of two windows. `at_once`: how many shards are read at a time."""

    def __init__(
        self,
        shards: Sequence[Shard],
        shape: tuple[int, int, int],
        label_width: int | None,
        rows: Rows,
        read_ahead_bytes: int = READ_AHEAD_BYTES,
        at_once: int = LOCAL_AT_ONCE,
    ) -> None:
        self._shards, self._shape, self._label_width, self._rows = shards, shape, label_width, rows
        self._read_ahead_bytes, self._at_once = read_ahead_bytes, at_once
        self._of_shards, self._of_windows = Buffers(), Buffers()

    def whole(self) -> Chunk:
        """All examples, as stored. Raises DamagedShard."""
        with ThreadPoolExecutor(self._at_once, "shard") as pool:
            return self._begun(tuple(range(len(self._shards))), pool).finished()

    def chunks(self, seed: int | None, epoch: int) -> Iterator[Chunk]:
        """All examples once, one window after another: in the order of (seed, epoch), or as stored without a seed. Raises
        DamagedShard."""
        for chunk, rows, _ in self.epochs(seed, [epoch]):
            yield chunk if seed is None else chunk.taken(rows)

    def epochs(self, seed: int | None, epochs: Iterable[int]) -> Iterator[tuple[Chunk, Indices, bool]]:
        """The windows of one epoch after another: their examples as stored, the rows in the order of the epoch, and whether
        the epoch ends with the window. While one is used, the next one is read. Raises DamagedShard."""
        plan = (
            (position, window)
            for position, epoch in enumerate(epochs)
            for window in windows(self._shards, seed, epoch, self._read_ahead_bytes)
        )
        with ThreadPoolExecutor(self._at_once, "shard") as pool:
            following = next(plan, None)
            reading = self._begun(following[1].shards, pool) if following else None
            while following and reading:
                (position, window), chunk = following, reading.finished()
                following = next(plan, None)
                reading = self._begun(following[1].shards, pool) if following else None
                yield chunk, window.rows, following is None or following[0] != position

    def _begun(self, shards: Sequence[int], pool: ThreadPoolExecutor) -> "_Reading":
        """Space for the examples of some shards, and what fills it."""
        row, width = self._rows.row, self._label_width or 1
        pixels = int(np.prod(self._shape))
        examples = [self._shards[index].examples for index in shards]
        # Long enough for the windows of every epoch, which differ by less than a shard.
        longest = sum(examples) + max((shard.examples for shard in self._shards), default=0)
        longest = min(longest, sum(shard.examples for shard in self._shards))
        images = self._of_windows.take(sum(examples) * pixels, longest * pixels).reshape(-1, pixels)
        labels = np.empty((len(images), width), row.label_type)
        names = np.empty((2, len(images)), f"S{ID_LENGTH}")
        columns = (
            (images, row.image),
            (labels.view(np.uint8), row.label),
            (names[0][:, np.newaxis].view(np.uint8), row.id),
            (names[1][:, np.newaxis].view(np.uint8), row.group),
        )

        def fill(shard: Shard, start: int) -> None:
            size = shard.examples * row.bytes
            buffer = self._of_shards.take(size)
            self._rows.fill(shard, buffer)
            matrix = buffer.reshape(-1, row.bytes)
            for column, at in columns:
                column[start : start + len(matrix)] = matrix[:, at : at + column.shape[1]]

        starts = np.cumsum([0, *examples])
        parts = [pool.submit(fill, self._shards[index], start) for index, start in zip(shards, starts, strict=False)]
        return _Reading(parts, images.reshape(-1, *self._shape), labels if self._label_width else labels[:, 0], names)


class _Reading(NamedTuple):
    """Examples that `parts` fill in."""

    parts: list[Future[None]]
    images: Bytes
    labels: npt.NDArray[np.integer]
    names: npt.NDArray[np.bytes_]

    def finished(self) -> Chunk:
        for part in self.parts:
            part.result()
        return Chunk(self.images, self.labels.astype(np.int64), *self.names)


class Window(NamedTuple):
    """Shards whose records are shuffled together, as indices, and the order of their records, counted over these shards."""

    shards: tuple[int, ...]
    rows: Indices


def windows(
    shards: Sequence[Shard], seed: int | None, epoch: int, read_ahead_bytes: int = READ_AHEAD_BYTES
) -> Iterator[Window]:
    """The windows of an epoch, which hold every record once: of equal size as far as shards allow, at most about half of
    `read_ahead_bytes`, as one is used while the next one is read."""
    # RandomState: NumPy promises its numbers for all versions (NEP 19).
    random = None if seed is None else np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch])))
    order = [index for index, shard in enumerate(shards) if shard.examples]
    if random is not None:
        order = random.permutation(order).tolist()
    most = read_ahead_bytes // 2 if random is not None else min(STORED_BYTES, read_ahead_bytes // 2)
    total = sum(shards[index].bytes for index in order)
    number = max(1, -(-total // max(1, most)))
    some: list[int] = []
    done = ended = 0
    for index in order:
        some.append(index)
        done += shards[index].bytes
        if done * number >= (ended + 1) * total:
            count = sum(shards[one].examples for one in some)
            yield Window(tuple(some), np.arange(count) if random is None else random.permutation(count))
            some, ended = [], done * number // total
