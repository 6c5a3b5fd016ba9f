"""Training batches of data sets whose records differ in length, and of those of earlier releases, with TensorFlow:

    seeded file order -> interleave -> shuffle -> batch -> one vectorised parse

or, if the split fits into memory, parsed once and kept as uint8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from schemas import example
from training.reading.records import READ_AT_ONCE, READ_BYTES, Split, naming_damaged_shards

SHUFFLE_EXAMPLES = 16_384  # shuffled at a time, of a split that does not fit into memory

# Gives, for the number of an epoch, its examples in order: images uint8 [some, height, width, channels] and labels int64
# [some] or [some, label_width], many at a time.
OneEpoch = Callable[[tf.Tensor], tf.data.Dataset]


@dataclass(frozen=True)
class Order:
    """The order of a training split, a function of `seed` and the number of the epoch; it begins at the batch `first_step`
    of the epoch `first_epoch`."""

    seed: int
    first_epoch: int = 0
    first_step: int = 0


def from_memory(split: Split, batch_size: int, order: Order | None) -> OneEpoch:
    """A split that is parsed once and kept."""
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


def from_shards(split: Split, batch_size: int, order: Order | None) -> OneEpoch:
    """A split that is read again in each epoch."""
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


def parse_records(records: tf.Tensor, split: Split) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Images uint8 [batch, *shape], labels int64 [batch] or [batch, label_width] and ids string [batch] of `records`, string
    [batch].

    One call for a whole batch: seven times as fast as one for each record.
    """
    features = tf.io.parse_example(
        records,
        {
            example.IMAGE: tf.io.FixedLenFeature([], tf.string),
            example.LABEL: tf.io.FixedLenFeature([] if split.label_width is None else [split.label_width], tf.int64),
            example.ID: tf.io.FixedLenFeature([], tf.string),
        },
    )
    pixels = tf.io.decode_raw(features[example.IMAGE], tf.uint8)
    return tf.reshape(pixels, [-1, *split.shape]), features[example.LABEL], features[example.ID]


def _parsed(split: Split, batch_size: int) -> tf.data.Dataset:
    records = _records(split, _paths(split)).batch(batch_size)
    return records.map(lambda r: parse_records(r, split), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


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
