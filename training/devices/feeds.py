"""Batches for Keras' fit, by backend and cache: a tf.data pipeline for TensorFlow, NumPy arrays for the others, and the
numbers of the examples where the split lives on the device."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras

from training.devices.resident import Resident, row_batches
from training.devices.waiting import Waiting
from training.reading.array_batches import AHEAD, numpy_batches, steps
from training.reading.ending import ending_with_the_process
from training.reading.records import Split

# Images, or the rows of a split on the device; labels, float32 [batch, label_width or 1]; weights, float32 [batch], or none.
Batch = tuple[Any, ...]


@dataclass(frozen=True)
class Feeding:
    """How the splits reach the model. batch_size: of a step on all devices."""

    batch_size: int
    seed: int
    devices: int = 1


@dataclass(frozen=True)
class Feed:
    """What `fit` and `evaluate` take as data, and the number of its batches in an epoch.

    counted: whether Keras sees that number itself.
    waiting: for its batches. prepare: what makes a batch for the model of one that the data give, inside TensorFlow's graph.
    """

    data: Any
    steps: int
    counted: bool
    waiting: Waiting
    prepare: Callable[[Batch], Batch] | None = None

    @property
    def told_steps(self) -> int | None:
        """The number of steps to give to Keras."""
        return None if self.counted else self.steps

    def begin(self) -> None:
        """Training starts now: what Keras has taken before does not count."""
        if isinstance(self.data, ArrayFeed):
            self.data.begin()


class ArrayFeed(keras.utils.PyDataset):  # type: ignore[misc] # untyped
    """Batches from an iterator, `steps` of them an epoch.

    Before the first step, Keras takes a batch to build the metrics, and then wants to start again: until `begin` is called,
    the same batch is given each time.
    """

    def __init__(self, batches: Iterator[Batch], steps: int) -> None:
        super().__init__()
        self._batches, self._steps = batches, steps
        self._kept: Batch | None = None
        self._begun = False

    def begin(self) -> None:
        self._begun = True

    @property
    def num_batches(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> Batch:
        if not self._begun:
            self._kept = self._kept or next(self._batches)
            return self._kept
        batch, self._kept = self._kept or next(self._batches), None
        return batch


def evaluate(model: keras.Model, feed: Feed) -> dict[str, float]:
    """The loss and the metrics of a compiled model over one epoch of a feed."""
    # Keras may take a batch to build the loss first.
    begin = keras.callbacks.LambdaCallback(on_test_begin=lambda logs: feed.begin())  # noqa: ARG005 - Keras gives it
    figures = model.evaluate(feed.data, steps=feed.told_steps, callbacks=[begin], return_dict=True, verbose=0)
    return {name: float(value) for name, value in figures.items()}


def make_feed(
    split: Split,
    how: Feeding,
    training: bool,
    class_weights: Sequence[float] | None = None,
    epoch: int = 0,
    step: int = 0,
    resident: Resident | None = None,
    waiting: Waiting | None = None,
    epochs: int | None = None,
) -> Feed:
    """The batches of a split from `step` of `epoch` on: shuffled for training, as stored otherwise. An epoch has only those
    from `step` on. `epochs`: how many there are; nothing is read ahead for more. None means any number. `waiting` counts
    the time that training waits for the batches."""
    waiting = waiting or Waiting()
    seed = how.seed if training else None
    left = steps(split, how.batch_size) - step
    if keras.config.backend() == "tensorflow":
        return _of_tensorflow(split, how, seed, class_weights, epoch, step, left, resident, waiting, epochs)
    batches: Iterator[Batch]
    if resident:
        batches = (resident.gather(rows) for rows in row_batches(split, how.batch_size, seed, epoch, step))
    else:
        batches = numpy_batches(
            split,
            how.batch_size,
            seed,
            epoch,
            class_weights,
            epochs,
            first_step=step,
            devices=how.devices,
        )
    if how.devices == 1:
        batches = on_device(batches, keras.config.backend())
    return Feed(ArrayFeed(waiting.timed(batches), left), left, True, waiting)


def _of_tensorflow(
    split: Split,
    how: Feeding,
    seed: int | None,
    class_weights: Sequence[float] | None,
    epoch: int,
    step: int,
    left: int,
    resident: Resident | None,
    waiting: Waiting,
    epochs: int | None,
) -> Feed:
    import tensorflow as tf

    from training.reading.input_pipeline import Order, batches

    if resident:
        rows = tf.data.Dataset.from_generator(
            lambda: ending_with_the_process(row_batches(split, how.batch_size, seed, epoch, step)),
            output_signature=tf.TensorSpec([None], tf.int32),
        )
        return Feed(rows.prefetch(tf.data.AUTOTUNE), left, False, waiting, resident.gather)
    order = None if seed is None else Order(seed, epoch, step)
    if order is None and epochs is not None:
        # Keras begins the data again for each validation. With a strategy, it first takes a batch from where it was.
        epochs = min(how.devices, 2)
    data = batches(split, how.batch_size, order, class_weights, how.devices, epochs)
    return Feed(data, left, False, waiting)


def on_device(batches: Iterator[Batch], backend: str) -> Iterator[Batch]:
    """The batches, the next AHEAD of them copied to the device with JAX. A copy runs beside the computation; nothing may
    follow that would fetch a batch back. Other backends copy by themselves."""
    if backend != "jax":
        yield from batches
        return
    import jax

    ahead = deque(jax.device_put(batch) for batch in islice(batches, AHEAD - 1))
    for batch in batches:
        ahead.append(jax.device_put(batch))
        yield ahead.popleft()
    yield from ahead
