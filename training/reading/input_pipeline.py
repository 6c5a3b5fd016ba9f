"""From a data set folder to batches on the device. Only shards that the manifest names are read.

    shards as arrays (arrays.py), in the order of the epoch -> batches -> prefetch -> device prefetch

The order of the examples depends only on the seed and the epoch, and every example comes exactly once per epoch.

Data sets whose records differ in length, and those of earlier releases, are read record by record:

    seeded file order -> interleave -> shuffle -> batch -> one vectorised parse -> prefetch -> device prefetch

or, if the split fits into memory, parsed once and kept as uint8.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from training.reading.arrays import CHUNK_BYTES, Arrays, Bytes, Chunk, Rows, windows
from training.reading.ending import ending_with_the_process
from training.reading.records import (
    READ_AT_ONCE,
    READ_BYTES,
    Split,
    arrays_of,
    naming_damaged_shards,
    parse_records,
)

SHUFFLE_EXAMPLES = 16_384  # shuffled at a time, of a split that does not fit into memory
CACHE_BYTES = 2 << 30

OneEpoch = Callable[[tf.Tensor], tf.data.Dataset]


@dataclass(frozen=True)
class Order:
    """The order of a training split, a function of `seed` and the number of the epoch.

    `first_epoch` is an int64 variable, read when an iteration begins: a resumed run knows its epoch only then.
    """

    seed: int
    first_epoch: tf.Variable


def steps(split: Split, batch_size: int) -> int:
    """The number of batches in an epoch; the last holds what is left."""
    return -(-split.examples // batch_size)


def batches(
    split: Split,
    batch_size: int,
    order: Order | None = None,
    class_weights: Sequence[float] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> tf.data.Dataset:
    """Endless batches for Keras; an epoch has `steps` of them.

    Images are uint8 [batch, height, width, channels], labels float32 [batch, label_width or 1]. With `class_weights` a
    third part, float32 [batch], holds the weight of each example's class: Keras' own class_weight would append a map
    behind the device prefetch. Without `order` the examples come in stored order. Raises JobFailed for damage in a
    cached split.

    Endless, and with the count given to Keras by its steps_per_epoch, because a dataset on a GPU has no cardinality:
    the op that asserts one has a CPU kernel only and would fetch every batch back (tensorflow/tensorflow#56508).
    """
    fits = split.image_bytes <= cache_bytes
    arrays = arrays_of(split)
    if arrays:
        one_epoch = (_from_kept_arrays if fits else _from_arrays)(split, arrays, order)
    else:
        one_epoch = (_from_memory if fits else _from_shards)(split, batch_size, order)
    weights = None if class_weights is None else tf.constant(class_weights, tf.float32)

    def for_keras(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        target = tf.reshape(tf.cast(label, tf.float32), [-1, split.label_width or 1])
        return (image, target) if weights is None else (image, target, tf.gather(weights, label))

    def in_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        return one_epoch(epoch).map(for_keras).prefetch(1).rebatch(batch_size)

    return _to_device(_epochs(order).flat_map(in_batches).prefetch(tf.data.AUTOTUNE))


def identified_batches(split: Split, batch_size: int) -> Iterator[Chunk]:
    """Every example once, as stored, in chunks of `batch_size`; the last holds what is left. A model compiles once for each
    size of a batch, so no other chunk may be smaller."""
    arrays = arrays_of(split)
    if arrays is None:
        yield from (Chunk(*batch) for batch in _parsed(split, batch_size).as_numpy_iterator())
        return
    left: Chunk | None = None
    for chunk in arrays.chunks(None, 0):
        left = left.followed_by(chunk) if left else chunk
        whole = len(left.ids) // batch_size * batch_size
        for at in range(0, whole, batch_size):
            yield left.part(at, at + batch_size)
        left = left.part(whole, None)
    if left and len(left.ids):
        yield left


# Each way gives, for the number of an epoch, its examples in order: images uint8 [some, height, width, channels] and
# labels int64 [some] or [some, label_width], many at a time.


def _from_kept_arrays(split: Split, arrays: Arrays, order: Order | None) -> OneEpoch:
    """A split that is kept in memory as two tensors."""
    with naming_damaged_shards([split]), tf.device("CPU"):
        images, labels = (tf.constant(part) for part in _whole(split, arrays))
    starts = np.cumsum([0, *(shard.examples for shard in split.shards)])
    size = max(1, CHUNK_BYTES // int(np.prod(split.shape)))

    def rows(epoch: int) -> Iterator[Rows]:
        """The order of an epoch, by window, as rows of the two tensors."""
        for window in ending_with_the_process(windows(split.shards, _seed(order), int(epoch))):
            of_window = [np.arange(starts[index], starts[index + 1]) for index in window.shards]
            yield np.concatenate(of_window)[window.rows]

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        found = tf.data.Dataset.from_generator(rows, args=(epoch,), output_signature=tf.TensorSpec([None], tf.int64))
        parts = found.flat_map(lambda some: tf.data.Dataset.from_tensor_slices(some).batch(size))
        return parts.map(lambda some: (tf.gather(images, some), tf.gather(labels, some)), num_parallel_calls=2)

    return one_epoch


def _whole(split: Split, arrays: Arrays) -> tuple[Bytes, Rows]:
    """All images and labels, as stored."""
    images = np.empty((split.examples, *split.shape), np.uint8)
    labels = np.empty((split.examples,) if split.label_width is None else (split.examples, split.label_width), np.int64)
    at = 0
    for chunk in arrays.chunks(None, 0):
        end = at + len(chunk.images)
        images[at:end], labels[at:end] = chunk.images, chunk.labels
        at = end
    return images, labels


def _from_arrays(split: Split, arrays: Arrays, order: Order | None) -> OneEpoch:
    """A split that is read again in each epoch."""

    def chunks(epoch: int) -> Iterator[tuple[Bytes, Rows]]:
        for chunk in ending_with_the_process(arrays.chunks(_seed(order), int(epoch))):
            yield chunk.images, chunk.labels

    labels = [None] if split.label_width is None else [None, split.label_width]
    signature = (tf.TensorSpec([None, *split.shape], tf.uint8), tf.TensorSpec(labels, tf.int64))
    return lambda epoch: tf.data.Dataset.from_generator(chunks, args=(epoch,), output_signature=signature)


def _seed(order: Order | None) -> int | None:
    return None if order is None else order.seed


def _parsed(split: Split, batch_size: int) -> tf.data.Dataset:
    records = _records(split, _paths(split)).batch(batch_size)
    return records.map(lambda r: parse_records(r, split), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _from_memory(split: Split, batch_size: int, order: Order | None) -> OneEpoch:
    with tf.device("CPU"), naming_damaged_shards([split]):
        parts = [(image, label) for image, label, _ in _parsed(split, 4096)]
        images, labels = (tf.concat(column, axis=0) for column in zip(*parts, strict=True))

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.range(split.examples, dtype=tf.int64)
        if order is not None:
            rows = tf.random.experimental.stateless_shuffle(rows, _seeds(order, epoch))
        starts = tf.data.Dataset.range(0, split.examples, batch_size)
        return starts.map(lambda start: rows[start : start + batch_size])

    def gather(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(images, rows), tf.gather(labels, rows)

    return lambda epoch: one_epoch(epoch).map(gather, tf.data.AUTOTUNE)


def _from_shards(split: Split, batch_size: int, order: Order | None) -> OneEpoch:
    paths = _paths(split)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        if order is None:
            return _records(split, paths).batch(batch_size)
        seeds = _seeds(order, epoch)
        records = _records(split, tf.random.experimental.stateless_shuffle(paths, seeds))

        # Not Dataset.shuffle: its order depends on the process' global seed too.
        def shuffled(index: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
            seeds_of_window = tf.random.experimental.stateless_fold_in(seeds, index)
            return tf.random.experimental.stateless_shuffle(window, seeds_of_window)

        return records.batch(SHUFFLE_EXAMPLES).enumerate().map(shuffled).unbatch().batch(batch_size)

    def parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label, _ = parse_records(records, split)
        return image, label

    return lambda epoch: one_epoch(epoch).map(parse, tf.data.AUTOTUNE)


def _epochs(order: Order | None) -> tf.data.Dataset:
    """The numbers of the epochs, from the first on."""
    if order is None:
        return tf.data.Dataset.range(1).repeat()
    return tf.data.Dataset.range(1).flat_map(lambda _: tf.data.Dataset.range(order.first_epoch, tf.int64.max))


def _seeds(order: Order, epoch: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(order.seed, tf.int64), epoch])


def _paths(split: Split) -> tf.Tensor:
    return tf.constant([split.path(shard) for shard in split.shards if shard.examples])


def _records(split: Split, paths: tf.Tensor) -> tf.data.Dataset:
    """Serialised examples from the files of `paths`: as many as the split has, or an error."""
    records = tf.data.Dataset.from_tensor_slices(paths).interleave(
        lambda path: tf.data.TFRecordDataset(path, buffer_size=READ_BYTES),
        cycle_length=READ_AT_ONCE,
        block_length=16,
        num_parallel_calls=READ_AT_ONCE,
        deterministic=True,
    )
    return records.apply(tf.data.experimental.assert_cardinality(split.examples))


def _to_device(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Copies batches ahead where there is a GPU. Nothing may follow: it would fetch them back."""
    if not tf.config.list_physical_devices("GPU"):
        return dataset
    return dataset.apply(tf.data.experimental.prefetch_to_device("/GPU:0"))
