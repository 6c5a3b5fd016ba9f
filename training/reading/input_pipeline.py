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

from schemas.example import layout_of
from training.reading.arrays import CHUNK_BYTES, Arrays, Chunk, Rows, windows
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
        dataset = (_from_kept_arrays if fits else _from_arrays)(split, arrays, batch_size, order)
    elif fits:
        dataset = _from_memory(split, batch_size, order)
    else:
        dataset = _from_shards(split, batch_size, order)
    weights = None if class_weights is None else tf.constant(class_weights, tf.float32)

    def for_keras(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        target = tf.reshape(tf.cast(label, tf.float32), [-1, split.label_width or 1])
        return (image, target) if weights is None else (image, target, tf.gather(weights, label))

    return _to_device(dataset.map(for_keras).prefetch(tf.data.AUTOTUNE))


def identified_batches(split: Split, batch_size: int) -> Iterator[Chunk]:
    """Chunks of at most `batch_size` examples, which hold every example once, in an order that is always the same."""
    arrays = arrays_of(split)
    if arrays is None:
        yield from (Chunk(*batch) for batch in _parsed(split, batch_size).as_numpy_iterator())
        return
    for chunk in arrays.chunks(None, 0, batch_size):
        for at in range(0, len(chunk.ids), batch_size):
            yield chunk.part(at, at + batch_size)


def _from_kept_arrays(split: Split, arrays: Arrays, batch_size: int, order: Order | None) -> tf.data.Dataset:
    """Batches of a split that is kept in memory as two tensors."""
    with naming_damaged_shards([split]), tf.device("CPU"):
        parts = zip(*((chunk.images, chunk.labels) for chunk in arrays.chunks(None, 0)), strict=True)
        images, labels = (tf.constant(np.concatenate(part)) for part in parts)
    starts = np.cumsum([0, *(shard.examples for shard in split.shards)])

    def rows(epoch: int) -> Iterator[Rows]:
        """The order of an epoch, by window, as rows of the two tensors."""
        for window in windows(split.shards, _seed(order), int(epoch)):
            of_window = [np.arange(starts[index], starts[index + 1]) for index in window.shards]
            yield np.concatenate(of_window)[window.rows]

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        found = tf.data.Dataset.from_generator(rows, args=(epoch,), output_signature=tf.TensorSpec([None], tf.int64))
        taken = _in_chunks(found, split, lambda some: (tf.gather(images, some), tf.gather(labels, some)))
        return taken.rebatch(batch_size)

    return _epochs(order).flat_map(one_epoch)


def _from_arrays(split: Split, arrays: Arrays, batch_size: int, order: Order | None) -> tf.data.Dataset:
    """Batches of a split whose windows are read one after the other, each while the one before is used."""
    paths = tf.constant([split.path(shard) for shard in split.shards])
    layout, width = layout_of(split.shape, split.label_width), split.label_width or 1
    images, labels = (layout.image, layout.image + int(np.prod(split.shape))), (layout.label, layout.label + width)

    def plan(epoch: int) -> Iterator[tuple[Rows, Rows, bool]]:
        for window in windows(split.shards, _seed(order), int(epoch)):
            yield np.array(window.shards), window.rows, arrays.are_new(window.shards)

    def read(shards: tf.Tensor, rows: tf.Tensor, are_new: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        contents = tf.map_fn(tf.io.read_file, tf.gather(paths, shards), tf.string, parallel_iterations=READ_AT_ONCE)
        checked = tf.cond(
            are_new, lambda: tf.numpy_function(arrays.check, [shards, contents], tf.bool), lambda: tf.constant(True)
        )
        with tf.control_dependencies([checked]):
            content = tf.io.decode_raw(tf.strings.reduce_join(contents), tf.uint8)
        return tf.reshape(content, [-1, layout.record_bytes]), rows

    def take(matrix: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        records = tf.gather(matrix, rows)
        found = tf.cast(records[:, labels[0] : labels[1]], tf.int64)
        of_kind = found if split.label_width else found[:, 0]
        return tf.reshape(records[:, images[0] : images[1]], [-1, *split.shape]), of_kind

    signature = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.bool))

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        found = tf.data.Dataset.from_generator(plan, args=(epoch,), output_signature=signature).map(read).prefetch(1)
        taken = found.flat_map(
            lambda matrix, rows: _in_chunks(tf.data.Dataset.from_tensors(rows), split, lambda some: take(matrix, some))
        )
        return taken.rebatch(batch_size)

    return _epochs(order).flat_map(one_epoch)


def _in_chunks(
    rows: tf.data.Dataset, split: Split, take: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
) -> tf.data.Dataset:
    """What `take` gives for the rows, many at a time: one call costs as much as copying a hundred small images."""
    size = max(1, CHUNK_BYTES // int(np.prod(split.shape)))
    parts = rows.flat_map(lambda some: tf.data.Dataset.from_tensor_slices(some).batch(size))
    return parts.map(take, num_parallel_calls=2, deterministic=True).prefetch(1)


def _seed(order: Order | None) -> int | None:
    return None if order is None else order.seed


def _parsed(split: Split, batch_size: int) -> tf.data.Dataset:
    records = _records(split, _paths(split)).batch(batch_size)
    return records.map(lambda r: parse_records(r, split), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _from_memory(split: Split, batch_size: int, order: Order | None) -> tf.data.Dataset:
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

    return _epochs(order).flat_map(one_epoch).map(gather, tf.data.AUTOTUNE)


def _from_shards(split: Split, batch_size: int, order: Order | None) -> tf.data.Dataset:
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

    return _epochs(order).flat_map(one_epoch).map(parse, tf.data.AUTOTUNE)


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
