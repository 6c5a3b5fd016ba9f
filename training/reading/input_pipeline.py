"""From a data set folder to batches on the device, with TensorFlow. Only shards that the manifest names are read.

    shards as arrays (arrays.py), in the order of the epoch -> batches -> prefetch -> device prefetch

The order of the examples depends only on the seed and the epoch, and every example comes exactly once per epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from training.reading.array_batches import AHEAD, CACHE_BYTES, padding, split_arrays, window_rows
from training.reading.arrays import CHUNK_BYTES, Indices
from training.reading.ending import ending_with_the_process
from training.reading.files import Bytes
from training.reading.records import Split, arrays_of, naming_damaged_shards

# Gives, for the number of an epoch, its examples in order: images uint8 [some, height, width, channels] and labels int64
# [some] or [some, label_width], many at a time.
OneEpoch = Callable[[tf.Tensor], tf.data.Dataset]

# Tensors decide nothing in the functions here, and to let AutoGraph rewrite them takes longer than to trace them.
_as_it_is = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True)
class Order:
    """The order of a training split, a function of `seed` and the number of the epoch; it begins at the batch `first_step`
    of the epoch `first_epoch`."""

    seed: int
    first_epoch: int = 0
    first_step: int = 0


def batches(
    split: Split,
    batch_size: int,
    order: Order | None = None,
    class_weights: Sequence[float] | None = None,
    cache_bytes: int = CACHE_BYTES,
    devices: int = 1,
) -> tf.data.Dataset:
    """Endless batches for Keras; an epoch has `steps` of them. Each has a multiple of `devices` examples (see
    array_batches.padding).

    Images are uint8 [batch, height, width, channels], labels float32 [batch, label_width or 1]. With `class_weights` a
    third part, float32 [batch], holds the weight of each example's class: Keras' own class_weight would append a map
    behind the device prefetch. Without `order` the examples come in stored order. Raises JobFailed for damage in a
    cached split.

    Endless, and with the count given to Keras by its steps_per_epoch, because a dataset on a GPU has no cardinality:
    the op that asserts one has a CPU kernel only and would fetch every batch back (tensorflow/tensorflow#56508).
    """
    one_epoch = (_from_memory if split.image_bytes <= cache_bytes else _from_shards)(split, order)
    weights = None if class_weights is None else tf.constant(class_weights, tf.float32)

    @_as_it_is  # type: ignore[untyped-decorator]
    def for_keras(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        target = tf.reshape(tf.cast(label, tf.float32), [-1, split.label_width or 1])
        return (image, target) if weights is None else (image, target, tf.gather(weights, label))

    @_as_it_is  # type: ignore[untyped-decorator]
    def in_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        return one_epoch(epoch).map(for_keras).prefetch(1).rebatch(batch_size)

    found = _epochs(order).flat_map(in_batches)
    if order is not None and order.first_step:
        found = found.skip(order.first_step)
    if devices > 1:  # the strategy copies to each
        return found.map(_as_it_is(lambda *batch: _padded(batch, devices))).prefetch(tf.data.AUTOTUNE)
    return _to_device(found.prefetch(tf.data.AUTOTUNE))


def _from_memory(split: Split, order: Order | None) -> OneEpoch:
    """A split that is kept in memory as two tensors."""
    with naming_damaged_shards([split]), tf.device("CPU"):
        images, labels = split_arrays(split)
        images = tf.experimental.dlpack.from_dlpack(images.__dlpack__())  # shares the memory
        labels = tf.constant(labels)
    size = max(1, CHUNK_BYTES // int(np.prod(split.shape)))

    def rows(epoch: int) -> Iterator[Indices]:
        """The order of an epoch, by window, as rows of the two tensors."""
        return ending_with_the_process(window_rows(split, _seed(order), int(epoch)))

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        found = tf.data.Dataset.from_generator(rows, args=(epoch,), output_signature=tf.TensorSpec([None], tf.int64))
        parts = found.flat_map(_as_it_is(lambda some: tf.data.Dataset.from_tensor_slices(some).batch(size)))
        gather = _as_it_is(lambda some: (tf.gather(images, some), tf.gather(labels, some)))
        return parts.map(gather, num_parallel_calls=2)

    return one_epoch


def _from_shards(split: Split, order: Order | None) -> OneEpoch:
    """A split that is read again in each epoch."""
    arrays = arrays_of(split)

    def chunks(epoch: int) -> Iterator[tuple[Bytes, Indices]]:
        for chunk in ending_with_the_process(arrays.chunks(_seed(order), int(epoch))):
            yield chunk.images, chunk.labels

    labels = [None] if split.label_width is None else [None, split.label_width]
    signature = (tf.TensorSpec([None, *split.shape], tf.uint8), tf.TensorSpec(labels, tf.int64))
    return lambda epoch: tf.data.Dataset.from_generator(chunks, args=(epoch,), output_signature=signature)


def _seed(order: Order | None) -> int | None:
    return None if order is None else order.seed


def _epochs(order: Order | None) -> tf.data.Dataset:
    """The numbers of the epochs, from the first on."""
    if order is None:
        return tf.data.Dataset.range(1).repeat()
    return tf.data.Dataset.range(order.first_epoch, tf.int64.max)


def _padded(batch: tuple[tf.Tensor, ...], devices: int) -> tuple[tf.Tensor, ...]:
    image, target, *weight = batch
    rows, factors = tf.numpy_function(padding, (tf.shape(image)[0], devices), (tf.int64, tf.float32), stateful=False)
    rows, factors = tf.ensure_shape(rows, [None]), tf.ensure_shape(factors, [None])
    weights = tf.gather(weight[0], rows) * factors if weight else factors
    return tf.gather(image, rows), tf.gather(target, rows), weights


def _to_device(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Copies batches ahead where there is a GPU. Nothing may follow: it would fetch them back."""
    if not tf.config.list_physical_devices("GPU"):
        return dataset
    return dataset.apply(tf.data.experimental.prefetch_to_device("/GPU:0", AHEAD))
