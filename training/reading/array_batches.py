"""Batches as NumPy arrays, without TensorFlow, and the arrays of a whole split; in the order of input_pipeline.py."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from training.reading.arrays import Chunk, Indices, windows
from training.reading.buffers import Bytes
from training.reading.records import Split, arrays_of

CACHE_BYTES = 2 << 30
# Of images that NumPy gathers at a time: many small ones would compete with the consumer for Python's lock.
GATHERED_BYTES = 4 << 20
AHEAD = 2  # batches that are made, or copied to the device, before they are used

_Item = TypeVar("_Item")
Batch = tuple[np.ndarray[Any, Any], ...]


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
) -> Iterator[Batch]:
    """The batches that input_pipeline.batches gives, made in a thread that is two batches ahead: of `epochs` epochs, or
    endless; an epoch has `steps` of them. They begin at the batch `first_step` of the epoch `first_epoch`. Each has a
    multiple of `devices` examples (see padding).

    Images are uint8 [batch, height, width, channels], labels float32 [batch, label_width or 1]. With `class_weights` a
    third part, float32 [batch], holds the weight of each example's class. The order is a function of (seed, epoch), or as
    stored without a seed. A split whose images take at most `cache_bytes` is read once and kept. Raises DamagedShard, which
    records.naming_damaged_shards turns into an error for users. Closing the iterator ends the thread.
    """

    def made() -> Generator[Batch, None, None]:
        numbers = count(first_epoch) if epochs is None else range(first_epoch, first_epoch + epochs)
        kept = kept_arrays(split, cache_bytes)
        for columns, stack in batched_rows(split, kept, batch_size, seed, numbers, class_weights):
            for rows in stack:
                batch = _taken(columns, rows)
                yield batch if devices == 1 else _padded(batch, devices)

    return _ahead(made(), AHEAD, first_step)


def kept_arrays(split: Split, cache_bytes: int) -> tuple[Bytes, Indices] | None:
    """The `split_arrays` of a split whose images take at most `cache_bytes`; None for others. Raises DamagedShard."""
    return split_arrays(split) if split.image_bytes <= cache_bytes else None


def batched_rows(
    split: Split,
    kept: tuple[Bytes, Indices] | None,
    batch_size: int,
    seed: int | None,
    epochs: Iterable[int],
    class_weights: Sequence[float] | None = None,
) -> Generator[tuple[Batch, Indices], None, None]:
    """The batches of each of `epochs`, as numpy_batches describes them, without the copy that makes a batch: arrays of
    examples, and the rows of each batch in them, int64 [batches, batch]. An epoch's last batch, if it is smaller, comes by
    itself. A split of which nothing is kept (see kept_arrays) is read in each epoch."""
    if kept:
        whole = _columns(split, *kept, class_weights)
        windows = ((whole, epoch_rows(split, seed, epoch), True) for epoch in epochs)
    else:
        windows = (
            (_columns(split, chunk.images, chunk.labels, class_weights), rows, ends)
            for chunk, rows, ends in arrays_of(split).epochs(seed, epochs)
        )
    yield from whole_batches(windows, batch_size)


def _columns(split: Split, images: Bytes, labels: Indices, class_weights: Sequence[float] | None) -> Batch:
    target, weights = targets(split, labels, class_weights)
    return (images, target) if weights is None else (images, target, weights)


def targets(
    split: Split, labels: Indices, class_weights: Sequence[float] | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Labels for Keras, float32 [examples, label_width or 1], and the weights of their classes, float32 [examples]."""
    weights = None if class_weights is None else np.asarray(class_weights, np.float32)[labels]
    return labels.astype(np.float32).reshape(-1, split.label_width or 1), weights


def padding(examples: int, devices: int) -> tuple[Indices, npt.NDArray[np.float32]]:
    """How a batch of `examples` becomes one that `devices` can share equally: the rows to take, int64 [multiple of devices],
    which repeat the first ones, and factors of their weights, float32. The factors are 0 for repetitions, and such that
    the mean over the batch is that over its examples."""
    total = -(-int(examples) // int(devices)) * int(devices)
    rows = np.arange(total) % examples
    return rows, np.where(np.arange(total) < examples, total / examples, 0.0).astype(np.float32)


def _padded(batch: Batch, devices: int) -> Batch:
    images, target, *weights = batch
    rows, factors = padding(len(images), devices)
    return images[rows], target[rows], weights[0][rows] * factors if weights else factors


def identified_batches(split: Split, batch_size: int) -> Iterator[Chunk]:
    """Every example once, as stored, in chunks of `batch_size`; the last holds what is left. A model compiles once for each
    size of a batch, so no other chunk may be smaller."""
    for columns, stack in whole_batches(arrays_of(split).epochs(None, [0]), batch_size):
        for rows in stack:
            yield Chunk(*columns).taken(rows)


def whole_batches(
    windows: Iterable[tuple[Batch, Indices, bool]], batch_size: int
) -> Generator[tuple[Batch, Indices], None, None]:
    """Columns of examples, each with the rows of whole batches in them, int64 [batches, batch], from columns with the rows
    of a window, and whether an epoch ends with it; its last batch holds what is left. Only a batch of several windows is a
    copy."""
    left: list[Batch] = []
    missing = 0  # from the batch that `left` begins
    for columns, rows, ends in windows:
        if left:
            left.append(_taken(columns, rows[:missing]))
            missing, rows = max(0, missing - len(rows)), rows[missing:]
            if not missing or ends:
                batch = tuple(np.concatenate(parts) for parts in zip(*left, strict=True))
                yield batch, np.arange(len(batch[0]))[np.newaxis]
                left = []
        whole = len(rows) // batch_size * batch_size
        if whole:
            yield columns, rows[:whole].reshape(-1, batch_size)
        if whole < len(rows) and ends:
            yield columns, rows[np.newaxis, whole:]
        elif whole < len(rows):
            left, missing = [_taken(columns, rows[whole:])], batch_size - len(rows) + whole


def _taken(columns: Batch, rows: Indices) -> Batch:
    return tuple(column[rows] for column in columns)


def split_arrays(split: Split) -> tuple[Bytes, Indices]:
    """All images, uint8 [examples, height, width, channels], and labels, int64 [examples] or [examples, label_width], as
    stored. Raises DamagedShard."""
    found = arrays_of(split).whole()
    return found.images, found.labels


def epoch_rows(split: Split, seed: int | None, epoch: int) -> Indices:
    """The order of an epoch as rows of `split_arrays`, int64 [examples]."""
    return np.concatenate(list(window_rows(split, seed, epoch)))


def window_rows(split: Split, seed: int | None, epoch: int) -> Iterator[Indices]:
    """The parts of `epoch_rows`, one for each window."""
    starts = np.cumsum([0, *(shard.examples for shard in split.shards)])
    for window in windows(split.shards, seed, epoch, split.read_ahead_bytes):
        of_window = [np.arange(starts[index], starts[index + 1]) for index in window.shards]
        yield np.concatenate(of_window)[window.rows]


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
