"""Batches as NumPy arrays, without TensorFlow, and the arrays of a whole split; in the order of input_pipeline.py."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from training.reading.arrays import Chunk, Indices, windows
from training.reading.files import Bytes
from training.reading.records import Split, arrays_of

CACHE_BYTES = 2 << 30
AHEAD = 2  # batches that are made, or copied to the device, before they are used

_ALIGNMENT = 64  # bytes

_Item = TypeVar("_Item")
_OneEpoch = Callable[[int | None, int], Iterator[tuple[Bytes, Indices]]]  # of a seed and an epoch


def steps(split: Split, batch_size: int) -> int:
    """The number of batches in an epoch; the last holds what is left."""
    return -(-split.examples // batch_size)


def numpy_batches(
    split: Split,
    batch_size: int,
    seed: int | None = None,
    first_epoch: int = 0,
    class_weights: Sequence[float] | None = None,
    cache_bytes: int = CACHE_BYTES,
    epochs: int | None = None,
    first_step: int = 0,
    devices: int = 1,
) -> Iterator[tuple[np.ndarray[Any, Any], ...]]:
    """The batches that input_pipeline.batches gives, made in a thread that is two batches ahead: of `epochs` epochs, or
    endless; an epoch has `steps` of them. They begin at the batch `first_step` of the epoch `first_epoch`. Each has a
    multiple of `devices` examples (see padding).

    Images are uint8 [batch, height, width, channels], labels float32 [batch, label_width or 1]. With `class_weights` a
    third part, float32 [batch], holds the weight of each example's class. The order is a function of (seed, epoch), or as
    stored without a seed. A split whose images take at most `cache_bytes` is read once and kept. Raises DamagedShard, which
    records.naming_damaged_shards turns into an error for users. Closing the iterator ends the thread.
    """
    weights = None if class_weights is None else np.asarray(class_weights, np.float32)

    def made() -> Generator[tuple[np.ndarray[Any, Any], ...], None, None]:
        one_epoch = _kept(split, batch_size) if split.image_bytes <= cache_bytes else _streamed(split, batch_size)
        for epoch in count(first_epoch) if epochs is None else range(first_epoch, first_epoch + epochs):
            for images, labels in one_epoch(seed, epoch):
                target = labels.astype(np.float32).reshape(-1, split.label_width or 1)
                batch = (images, target) if weights is None else (images, target, weights[labels])
                yield batch if devices == 1 else _padded(batch, devices)

    return _ahead(made(), AHEAD, first_step)


def padding(examples: int, devices: int) -> tuple[Indices, npt.NDArray[np.float32]]:
    """How a batch of `examples` becomes one that `devices` can share equally: the rows to take, int64 [multiple of devices],
    which repeat the first ones, and factors of their weights, float32. The factors are 0 for repetitions, and such that
    the mean over the batch is that over its examples."""
    total = -(-int(examples) // int(devices)) * int(devices)
    rows = np.arange(total) % examples
    return rows, np.where(np.arange(total) < examples, total / examples, 0.0).astype(np.float32)


def _padded(batch: tuple[np.ndarray[Any, Any], ...], devices: int) -> tuple[np.ndarray[Any, Any], ...]:
    images, target, *weights = batch
    rows, factors = padding(len(images), devices)
    return images[rows], target[rows], weights[0][rows] * factors if weights else factors


def identified_batches(split: Split, batch_size: int) -> Iterator[Chunk]:
    """Every example once, as stored, in chunks of `batch_size`; the last holds what is left. A model compiles once for each
    size of a batch, so no other chunk may be smaller."""
    return rebatched(arrays_of(split).chunks(None, 0), batch_size)


def rebatched(chunks: Iterable[Chunk], batch_size: int) -> Iterator[Chunk]:
    """The examples of `chunks` in batches of one size; the last holds what is left. Only a batch of several chunks is a
    copy."""
    parts: list[Chunk] = []
    missing = batch_size
    for chunk in chunks:
        at, length = 0, len(chunk.ids)
        while at + missing <= length:
            yield Chunk.joined([*parts, chunk.part(at, at + missing)])
            at, parts, missing = at + missing, [], batch_size
        if at < length:
            parts.append(chunk.part(at, None))
            missing -= length - at
    if parts:
        yield Chunk.joined(parts)


def split_arrays(split: Split) -> tuple[Bytes, Indices]:
    """All images, uint8 [examples, height, width, channels], and labels, int64 [examples] or [examples, label_width], as
    stored. Raises DamagedShard."""
    images = _aligned((split.examples, *split.shape))
    labels = np.empty((split.examples,) if split.label_width is None else (split.examples, split.label_width), np.int64)
    at = 0
    for chunk in arrays_of(split).chunks(None, 0):
        end = at + len(chunk.images)
        images[at:end], labels[at:end] = chunk.images, chunk.labels
        at = end
    return images, labels


def _aligned(shape: tuple[int, ...]) -> Bytes:
    """An array that TensorFlow can use without a copy."""
    size = int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


def epoch_rows(split: Split, seed: int | None, epoch: int) -> Indices:
    """The order of an epoch as rows of `split_arrays`, int64 [examples]."""
    return np.concatenate(list(window_rows(split, seed, epoch)))


def window_rows(split: Split, seed: int | None, epoch: int) -> Iterator[Indices]:
    """The parts of `epoch_rows`, one for each window."""
    starts = np.cumsum([0, *(shard.examples for shard in split.shards)])
    for window in windows(split.shards, seed, epoch, split.read_ahead_bytes):
        of_window = [np.arange(starts[index], starts[index + 1]) for index in window.shards]
        yield np.concatenate(of_window)[window.rows]


def _kept(split: Split, batch_size: int) -> _OneEpoch:
    """A split that is kept in memory."""
    images, labels = split_arrays(split)

    def one_epoch(seed: int | None, epoch: int) -> Iterator[tuple[Bytes, Indices]]:
        rows = epoch_rows(split, seed, epoch)
        for at in range(0, len(rows), batch_size):
            some = rows[at : at + batch_size]
            yield images[some], labels[some]

    return one_epoch


def _streamed(split: Split, batch_size: int) -> _OneEpoch:
    """A split that is read again in each epoch."""
    arrays = arrays_of(split)

    def one_epoch(seed: int | None, epoch: int) -> Iterator[tuple[Bytes, Indices]]:
        for chunk in rebatched(arrays.chunks(seed, epoch), batch_size):
            yield chunk.images, chunk.labels

    return one_epoch


def _ahead(items: Generator[_Item, None, None], count: int, first: int = 0) -> Iterator[_Item]:
    """The items from `first` on, `count` of them made ahead in a thread, which ends with this generator or the process."""
    end = object()
    thread = ThreadPoolExecutor(1, "batches")
    waiting = deque(thread.submit(next, items, end) for _ in range(first + count))
    for _ in range(first):
        waiting.popleft()
    try:
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield cast(_Item, item)
    finally:
        thread.shutdown(cancel_futures=True)
        items.close()
