"""The examples of a split in the order of an epoch, from shards as matrices of bytes, without TensorFlow.

The order is a function of the seed, the epoch and the size of a window: the shards are shuffled and cut into windows, and
the records of a window are shuffled together. A split that fits into one window is shuffled as a whole. While one window is
used, the next one is read, and where reading is slower, the one after it too, in the place of the one that has been used. So
two are held: READ_AHEAD_BYTES, and up to a shard more each, as a window holds whole shards.
"""

import contextlib
import mmap
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.dataset import Shard
from schemas.example import ID_LENGTH
from training.reading.files import Bytes
from training.reading.shards import Rows

READ_AHEAD_BYTES = 64 << 20
STORED_BYTES = 16 << 20  # of a window that is not shuffled, at most: enough to read ahead
# Of images that are gathered at a time. The first chunk is small, so that the first batch comes soon; each is twice as large
# as the one before. Many small ones would compete with the consumer for Python's lock.
FIRST_CHUNK_BYTES, CHUNK_BYTES = 4 << 20, 16 << 20
READ_AT_ONCE = 16  # shards
_TAKEN_BYTES = 512 << 10  # of rows that are copied at a time; a processor keeps so many near itself
_ALIGNMENT = 2 << 20  # bytes: a large page; and TensorFlow uses an aligned array without a copy

Indices = npt.NDArray[np.int64]
_Begun = tuple[int, "Window", Bytes, list[Future[None]]]


class Chunk(NamedTuple):
    """Examples in the order of an epoch: images uint8 [chunk, height, width, channels], labels int64 [chunk] or [chunk,
    label_width], ids and groups (patients) bytes [chunk] of ID_LENGTH characters."""

    images: Bytes
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]
    groups: npt.NDArray[np.bytes_]

    def part(self, start: int, end: int | None) -> "Chunk":
        """The examples from `start` to `end`."""
        return Chunk(self.images[start:end], self.labels[start:end], self.ids[start:end], self.groups[start:end])

    @staticmethod
    def joined(parts: "Sequence[Chunk]", memory: "Memory") -> "Chunk":
        """The examples of all parts; without copying if there is one. Otherwise the images are in `memory`."""
        if len(parts) == 1:
            return parts[0]
        images, *others = zip(*parts, strict=True)
        into = memory.array(sum(map(len, images)), *images[0].shape[1:])
        return Chunk(np.concatenate(images, out=into), *map(np.concatenate, others))


class Arrays:
    """The shards of a split. `shape` and `label_width`: of an example. `rows`: reads and checks a shard.
    `read_ahead_bytes`: of the shards that are held at a time."""

    def __init__(
        self,
        shards: Sequence[Shard],
        shape: tuple[int, int, int],
        label_width: int | None,
        rows: Rows,
        read_ahead_bytes: int = READ_AHEAD_BYTES,
    ) -> None:
        self._shards, self._shape, self._label_width, self._rows = shards, shape, label_width, rows
        self._read_ahead_bytes = read_ahead_bytes
        self._total_bytes = sum(shard.examples for shard in shards) * rows.row.bytes
        self._spare: list[Bytes] = []  # a new buffer costs as much as filling it
        self._memory = Memory()
        # Of the one thread that takes the chunks, as `_memory` is.
        self._taken = np.empty((max(1, _TAKEN_BYTES // rows.row.bytes), rows.row.bytes), np.uint8)

    def chunks(self, seed: int | None, epoch: int, batch_size: int = 1) -> Iterator[Chunk]:
        """All examples once: in the order of (seed, epoch), or as stored without a seed. Chunks end with a batch of the
        epoch, except at the end of a window. Raises DamagedShard."""
        return (chunk for _, chunk in self._chunks(seed, [epoch], batch_size))

    def epochs(self, seed: int | None, epochs: Iterable[int], batch_size: int = 1) -> Iterator[Iterator[Chunk]]:
        """The chunks of one epoch after another. The first window of an epoch is read while the last one of the epoch
        before is used, so take all chunks of an epoch before the next."""
        for _, found in groupby(self._chunks(seed, epochs, batch_size), key=itemgetter(0)):
            yield (chunk for _, chunk in found)

    def _chunks(self, seed: int | None, epochs: Iterable[int], batch_size: int) -> Iterator[tuple[int, Chunk]]:
        """The chunks, each with the position of its epoch in `epochs`."""
        size, most = (
            max(batch_size, some // int(np.prod(self._shape)))
            for some in (min(FIRST_CHUNK_BYTES, CHUNK_BYTES), CHUNK_BYTES)
        )
        plan = (
            (position, window)
            for position, epoch in enumerate(epochs)
            for window in windows(self._shards, seed, epoch, self._read_ahead_bytes)
        )
        with ThreadPoolExecutor(self._at_once(), "shard") as pool:
            begun = deque(self._begun(next(plan, None), pool))
            last, done = -1, 0  # the epoch, and its examples so far
            while begun:
                position, window, buffer, parts = begun.popleft()
                last, done = position, done if position == last else 0
                for part in parts:
                    part.result()
                if not begun:  # the first window has the bucket or disk for itself
                    begun.extend(self._begun(next(plan, None), pool))
                matrix = buffer[: self._bytes(window)].reshape(-1, self._rows.row.bytes)
                at = 0
                while at < len(window.rows):
                    end = at + size - (done + at + size) % batch_size
                    yield position, self._gathered(matrix, window.rows[at:end])
                    at, size = end, min(2 * size, most)
                done += len(window.rows)
                self._spare.append(buffer)
                begun.extend(self._begun(next(plan, None), pool))

    def _at_once(self) -> int:
        """The shards of a window, and one of the next. If all of the next were read beside them, both windows would end
        together, and nothing would be under way while they are used."""
        windows = max(1, 2 * self._total_bytes // max(1, self._read_ahead_bytes))
        return min(READ_AT_ONCE, -(-len(self._shards) // windows) + 1)

    def _bytes(self, window: "Window") -> int:
        return sum(self._shard_bytes(index) for index in window.shards)

    def _shard_bytes(self, index: int) -> int:
        return self._shards[index].examples * self._rows.row.bytes

    def _begun(self, planned: "tuple[int, Window] | None", pool: ThreadPoolExecutor) -> "list[_Begun]":
        """A buffer, and what fills it with the shards of the window; nothing without a window."""
        if planned is None:
            return []
        position, window = planned
        buffer = self._spare.pop() if self._spare else np.empty(0, np.uint8)
        if len(buffer) < self._bytes(window):
            # Long enough for the windows of every epoch, which differ by less than a shard.
            longest = max(shard.examples for shard in self._shards) * self._rows.row.bytes
            buffer = aligned_bytes(min(self._total_bytes, self._bytes(window) + longest))
        parts, start = [], 0
        for index in window.shards:
            end = start + self._shard_bytes(index)
            parts.append(pool.submit(self._rows.fill, self._shards[index], buffer[start:end]))
            start = end
        return [(position, window, buffer, parts)]

    def _gathered(self, matrix: Bytes, rows: Indices) -> Chunk:
        row, width = self._rows.row, self._label_width or 1
        label_end = row.label + width * np.dtype(row.label_type).itemsize
        size = int(np.prod(self._shape))
        columns = (
            (row.image, row.image + size),
            (row.label, label_end),
            (row.id, row.id + ID_LENGTH),
            (row.group, row.group + ID_LENGTH),
        )
        images = self._memory.array(len(rows), size)
        labels = np.empty((len(rows), label_end - row.label), np.uint8)
        ids, groups = (np.empty((len(rows), ID_LENGTH), np.uint8) for _ in range(2))
        # Whole rows, because NumPy can only take these into memory that is there, and then their parts.
        for start in range(0, len(rows), len(self._taken)):
            some = rows[start : start + len(self._taken)]
            # "clip" skips a copy that NumPy makes in case that a row is missing; there is none.
            part = matrix.take(some, axis=0, out=self._taken[: len(some)], mode="clip")
            for column, (first, end) in zip((images, labels, ids, groups), columns, strict=True):
                column[start : start + len(some)] = part[:, first:end]
        numbers = labels.view(row.label_type).astype(np.int64)
        return Chunk(
            images.reshape(-1, *self._shape),
            numbers if self._label_width else numbers[:, 0],
            *(names.view(f"S{ID_LENGTH}")[:, 0] for names in (ids, groups)),
        )


class Memory:
    """Arrays in memory that is used again when nothing refers to them any more, because to touch new memory for the first
    time costs more than to fill it."""

    def __init__(self) -> None:
        self._taken: list[Bytes] = []

    def array(self, *shape: int) -> Bytes:
        """An array with any content, which TensorFlow can use without a copy. Call it on one thread."""
        size = int(np.prod(shape))
        # Every part of an array refers to the whole. Here, `_taken` and the argument do.
        unused = [index for index in range(len(self._taken)) if sys.getrefcount(self._taken[index]) == 2]
        memory = next((self._taken[index] for index in unused if len(self._taken[index]) >= size), None)
        if memory is None:
            for index in reversed(unused):  # too small
                del self._taken[index]
            memory = aligned_bytes(size)
            self._taken.append(memory)
        return memory[:size].reshape(shape)


def aligned_bytes(size: int) -> Bytes:
    """uint8 [size] with any content, in large pages if the system has them: to touch small ones for the first time takes
    longer than to fill them."""
    pages = mmap.mmap(-1, size + _ALIGNMENT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # not on every system
        pages.madvise(mmap.MADV_HUGEPAGE)
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _ALIGNMENT
    return np.frombuffer(pages, np.uint8, size, start)


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
