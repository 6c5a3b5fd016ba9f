"""From a data set folder to batches on the device, with TensorFlow. Only shards that the manifest names are read.

    shards as arrays (arrays.py), in the order of the epoch -> batches -> prefetch -> device prefetch

The order of the examples depends only on the seed and the epoch, and every example comes exactly once per epoch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import tensorflow as tf

from training.reading.array_batches import AHEAD, Batch, epoch_numbers, padding, stacked_batches
from training.reading.ending import ending_with_the_process
from training.reading.records import Split

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
    devices: int = 1,
    epochs: int | None = None,
) -> tf.data.Dataset:
    """Batches for Keras, of `epochs` epochs or endless; an epoch has `steps` of them. Each has a multiple of `devices`
    examples (see array_batches.padding).

    Images are uint8 [batch, height, width, channels], labels float32 [batch, label_width or 1]. With `class_weights` a
    third part, float32 [batch], holds the weight of each example's class: Keras' own class_weight would append a map
    behind the device prefetch. Without `order` the examples come in stored order.

    Keras is told the number of steps by its steps_per_epoch, because a dataset on a GPU has no cardinality: the op that
    asserts one has a CPU kernel only and would fetch every batch back (tensorflow/tensorflow#56508).
    """
    seed, first = (None, 0) if order is None else (order.seed, order.first_epoch)

    def stacked() -> Iterator[Batch]:
        return ending_with_the_process(
            stacked_batches(split, batch_size, seed, epoch_numbers(first, epochs), class_weights)
        )

    image = tf.TensorSpec([None, None, *split.shape], tf.uint8)
    target, weight = tf.TensorSpec([None, None, split.label_width or 1]), tf.TensorSpec([None, None])
    signature = (image, target) if class_weights is None else (image, target, weight)
    found = tf.data.Dataset.from_generator(stacked, output_signature=signature).prefetch(1)
    # Unlike those of Dataset.unbatch, these batches are parts of the same memory. TensorFlow would take new memory for each,
    # and to touch that for the first time takes longer than everything else here.
    found = found.flat_map(_as_it_is(lambda *columns: tf.data.Dataset.from_tensor_slices(columns)))
    if order is not None and order.first_step:
        found = found.skip(order.first_step)
    if devices > 1:  # the strategy copies to each
        return found.map(_as_it_is(lambda *batch: _padded(batch, devices))).prefetch(tf.data.AUTOTUNE)
    return _to_device(found.prefetch(tf.data.AUTOTUNE))


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
