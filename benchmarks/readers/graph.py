"""Reads a tf.data pipeline as Keras' `fit` does: inside a graph. Python takes up to 0.3 ms for each batch, and the
pipeline would wait."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from benchmarks.readers.way import Arrays, Data, Epochs, Way, in_epochs


def tensorflow_way(
    name: str,
    dataset: Callable[[Data, str, int], tf.data.Dataset],
    arrays: Callable[[Any, Data], Arrays],
    **places: bool,
) -> Way:
    """A Way from an endless dataset of batches, whose epochs follow each other as `Data.steps` says."""

    def epochs(data: Data, folder: str, batch: int) -> Epochs:
        return in_epochs(iter(dataset(data, folder, batch)), data.steps(batch))

    def counts(data: Data, folder: str, batch: int) -> Iterator[int]:
        batches, steps = iter(dataset(data, folder, batch)), tf.constant(data.steps(batch))
        while True:
            yield int(_examples(batches, steps))

    return Way(name, epochs, arrays, counts, **places)


@tf.function  # type: ignore[untyped-decorator]
def _examples(batches: Any, steps: tf.Tensor) -> tf.Tensor:
    """Takes `steps` batches, and counts their examples."""
    count = tf.constant(0)
    for _ in tf.range(steps):
        first, *_rest = tf.nest.flatten(next(batches))
        count += tf.shape(first)[0]
    return count
