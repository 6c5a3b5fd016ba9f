"""A split that lives on the device: the host sends the numbers of the examples, and batches are gathered there."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from training.reading.array_batches import epoch_rows, split_arrays
from training.reading.records import Split

Rows = npt.NDArray[np.int32]


class Resident:
    """The images of a split as uint8 [examples, height, width, channels] and its labels as float32 [examples, label_width or
    1] on the default device, with the weight of each example's class if `class_weights` are given. Raises DamagedShard."""

    def __init__(self, split: Split, class_weights: Sequence[float] | None = None) -> None:
        images, labels = split_arrays(split)
        parts: list[npt.NDArray[Any]] = [images, labels.astype(np.float32).reshape(-1, split.label_width or 1)]
        if class_weights is not None:
            parts.append(np.asarray(class_weights, np.float32)[labels])
        # As variables, because TensorFlow's GPU gathers uint8 from variables only.
        self._parts = [
            keras.Variable(part, dtype=str(part.dtype), trainable=False, name=f"resident_{index}")
            for index, part in enumerate(parts)
        ]

    def gather(self, rows: Any) -> tuple[Any, ...]:
        """The batch of the examples with these numbers, int32 [batch]: images, labels and, if any, weights."""
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            return tuple(tf.gather(part.value, rows) for part in self._parts)
        return tuple(keras.ops.take(part, rows, axis=0) for part in self._parts)


def row_batches(
    split: Split, batch_size: int, seed: int | None, first_epoch: int = 0, first_step: int = 0
) -> Iterator[Rows]:
    """The numbers of the examples of each batch, in the order of (seed, epoch), or as stored without a seed; endless. The
    order of the next epoch is computed while this one is used."""
    with ThreadPoolExecutor(1, "order") as thread:
        following = thread.submit(epoch_rows, split, seed, first_epoch)
        for epoch in count(first_epoch):
            rows = following.result().astype(np.int32)
            following = thread.submit(epoch_rows, split, seed, epoch + 1)
            for at in range(first_step * batch_size, len(rows), batch_size):
                yield rows[at : at + batch_size]
            first_step = 0
