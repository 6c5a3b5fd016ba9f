"""Batches as NumPy arrays, without TensorFlow, and the arrays of a whole split; in the order of input_pipeline.py."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from schemas.labels import UNCERTAIN
from training.reading.arrays import CHUNK_BYTES, Chunk, Indices, Memory, windows
from training.reading.files import Bytes
from training.reading.records import Split, arrays_of, naming_damaged_shards

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
    epochs: int | None = None,
    first_step: int = 0,
    devices: int = 1,
) -> Iterator[Batch]:
    """The batches that input_pipeline.batches gives, made in a thread that is two batches ahead: of `epochs` epochs, or
    endless; an epoch has `steps` of them. They begin at the batch `first_step` of the epoch `first_epoch`. Each has a
    multiple of `devices` examples (see padding).

    Images are uint8 [batch, height, width, channels], labels float32 [batch, label_width or 1]. With `class_weights` a
    third part, float32 [batch], holds the weight of each example's class. The order is a function of (seed, epoch), or as
    stored without a seed. Raises DamagedShard, which records.naming_damaged_shards turns into an error for users. Closing
    the iterator ends the thread.
    """

    def made() -> Generator[Batch, None, None]:
        for stacked in stacked_batches(split, batch_size, seed, epoch_numbers(first_epoch, epochs), class_weights):
            for batch in zip(*stacked, strict=True):
                yield batch if devices == 1 else _padded(batch, devices)

    return _ahead(made(), AHEAD, first_step)


def epoch_numbers(first: int, epochs: int | None) -> Iterable[int]:
    """The numbers of the epochs from `first` on: `epochs` of them, or endless."""
    return count(first) if epochs is None else range(first, first + epochs)


def stacked_batches(
    split: Split,
    batch_size: int,
    seed: int | None,
    epochs: Iterable[int],
    class_weights: Sequence[float] | None = None,
) -> Generator[Batch, None, None]:
    """The batches of epochs with these numbers, as numpy_batches describes them, stacked: images are [batches, batch,
    height, width, channels]. An epoch's last batch, if it is smaller, comes by itself."""
    if split.kept is not None:
        yield from _kept_batches(split, batch_size, seed, epochs, class_weights)
        return
    for chunks in arrays_of(split).epochs(seed, epochs, batch_size):
        for chunk in whole_batches(chunks, batch_size):
            yield from _stacked((chunk.images, *targets(split, chunk.labels, class_weights)), batch_size)


def _kept_batches(
    split: Split, batch_size: int, seed: int | None, epochs: Iterable[int], class_weights: Sequence[float] | None
) -> Generator[Batch, None, None]:
    images, labels = split_arrays(split)
    others, memory = targets(split, labels, class_weights), Memory()
    at_once = max(1, CHUNK_BYTES // (batch_size * images[0].nbytes)) * batch_size
    for epoch in epochs:
        rows = epoch_rows(split, seed, epoch)
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            # "clip" as in arrays.py
            taken = images.take(some, axis=0, out=memory.array(len(some), *split.shape), mode="clip")
            yield from _stacked((taken, *(column[some] for column in others)), batch_size)


def targets(
    split: Split, labels: Indices, class_weights: Sequence[float] | None
) -> tuple[npt.NDArray[np.float32], ...]:
    """Labels for Keras, float32 [examples, label_width or 1], and, with `class_weights`, the weight of each example's class,
    float32 [examples]."""
    target = labels.astype(np.float32).reshape(-1, split.label_width or 1)
    return (target,) if class_weights is None else (target, np.asarray(class_weights, np.float32)[labels])


def _stacked(columns: Batch, batch_size: int) -> Iterator[Batch]:
    """Whole batches as one array of each column, and then what is left."""
    whole = len(columns[0]) // batch_size * batch_size
    if whole:
        yield tuple(column[:whole].reshape(-1, batch_size, *column.shape[1:]) for column in columns)
    if whole < len(columns[0]):
        yield tuple(column[np.newaxis, whole:] for column in columns)


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
    for chunk in whole_batches(arrays_of(split).chunks(None, 0, batch_size), batch_size):
        for at in range(0, len(chunk.ids), batch_size):
            yield chunk.part(at, at + batch_size)


def whole_batches(chunks: Iterable[Chunk], batch_size: int) -> Iterator[Chunk]:
    """The examples of `chunks` in multiples of `batch_size`; the last chunk holds what is left. Only a batch of several
    chunks is a copy."""
    memory = Memory()
    left: list[Chunk] = []
    missing = batch_size  # from the batch that `left` begins
    for chunk in chunks:
        start = min(missing, len(chunk.ids)) if left else 0
        if start:
            left.append(chunk.part(0, start))
            missing -= start
            if missing:
                continue
            yield Chunk.joined(left, memory)
        end = start + (len(chunk.ids) - start) // batch_size * batch_size
        if end > start:
            yield chunk.part(start, end)
        left, missing = [chunk.part(end, None)] if end < len(chunk.ids) else [], batch_size - len(chunk.ids) + end
    if left:
        yield Chunk.joined(left, memory)


def stored_batches(split: Split, batch_size: int) -> Iterator[tuple[Bytes, Indices]]:
    """The images and labels of `identified_batches`, without reading a split that is kept."""
    if split.kept is None:
        for chunk in identified_batches(split, batch_size):
            yield chunk.images, chunk.labels
        return
    images, labels = split.kept
    for at in range(0, len(labels), batch_size):
        yield images[at : at + batch_size], labels[at : at + batch_size]


def part_of(split: Split, shards: int) -> Split:
    """The split with so many of its shards that have examples, evenly spaced."""
    full = [index for index, shard in enumerate(split.shards) if shard.examples]
    chosen = [full[at] for at in np.linspace(0, len(full) - 1, shards).astype(int)]
    part = replace(split, shards=tuple(split.shards[index] for index in chosen))
    if split.kept is None:
        return part
    starts = _starts(split)
    rows = np.concatenate([np.arange(starts[index], starts[index + 1]) for index in chosen])
    return replace(part, kept=(split.kept[0][rows], split.kept[1][rows]))


def keep(split: Split) -> Split:
    """The split with its images and labels in memory. Raises DamagedShard."""
    return replace(split, kept=split_arrays(split))


def split_arrays(split: Split) -> tuple[Bytes, Indices]:
    """All images, uint8 [examples, height, width, channels], and labels, int64 [examples] or [examples, label_width], as
    stored. Raises DamagedShard."""
    if split.kept is not None:
        return split.kept
    images = Memory().array(split.examples, *split.shape)
    labels = np.empty((split.examples,) if split.label_width is None else (split.examples, split.label_width), np.int64)
    at = 0
    for chunk in arrays_of(split).chunks(None, 0):
        end = at + len(chunk.images)
        images[at:end], labels[at:end] = chunk.images, chunk.labels
        at = end
    return images, labels


def certain_counts(split: Split) -> list[int]:
    """The number of examples in which each finding of a split with several labels is not UNCERTAIN: reads the split once.
    Raises JobFailed for damage."""
    found = np.zeros(split.label_width or 1, np.int64)
    with naming_damaged_shards([split]):
        for chunk in arrays_of(split).chunks(None, 0):
            found += (chunk.labels.reshape(len(chunk.labels), -1) != UNCERTAIN).sum(axis=0)
    return [int(count) for count in found]


def epoch_rows(split: Split, seed: int | None, epoch: int) -> Indices:
    """The order of an epoch as rows of `split_arrays`, int64 [examples]."""
    return np.concatenate(list(window_rows(split, seed, epoch)))


def window_rows(split: Split, seed: int | None, epoch: int) -> Iterator[Indices]:
    """The parts of `epoch_rows`, one for each window."""
    starts = _starts(split)
    for window in windows(split.shards, seed, epoch, split.read_ahead_bytes):
        of_window = [np.arange(starts[index], starts[index + 1]) for index in window.shards]
        yield np.concatenate(of_window)[window.rows]


def _starts(split: Split) -> Indices:
    """The row of `split_arrays` at which each shard begins, and their number."""
    return np.cumsum([0, *(shard.examples for shard in split.shards)])


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
