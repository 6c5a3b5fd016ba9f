"""The functions with which Keras' fit runs steps: exactly as many as an epoch has, and counting the time spent waiting.

Keras runs `steps_per_execution` steps at a time, also where fewer are left in the epoch, so with endless batches it would
take some of the next epoch. And it does not say whether the input or the device was the slower one.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import keras

from training.devices.feeds import Feed


class Waiting:
    """The seconds that training has waited for input since the first batch, which waits for what happens only once."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._measured: list[Callable[[], float]] = []
        self._skipped = 0.0

    @property
    def seconds(self) -> float:
        return self._seconds + sum(measure() for measure in self._measured) - self._skipped

    def begin(self) -> None:
        """Starts again from zero."""
        self._skipped += self.seconds

    def add_source(self, measure: Callable[[], float]) -> None:
        """Counts the seconds that `measure` gives too."""
        self._measured.append(measure)

    def timed(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items, with the time that each took counted."""
        while True:
            start = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._seconds += time.perf_counter() - start
            yield item


class ExactSteps(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """Makes `fit` train exactly `feed.steps` steps an epoch, `steps_per_execution` at a time, and count its waiting; and
    makes it validate on `held_out`, if that needs preparing.

    It acts when Keras has built everything, before the first step. Keras calls its `train_function` and `test_function` with
    an iterator of batches.
    """

    def __init__(self, feed: Feed, held_out: Feed, waiting: Waiting) -> None:
        super().__init__()
        self._feed, self._held_out, self._waiting = feed, held_out, waiting

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        self._feed.begin()
        self._held_out.begin()
        model, at_once = self.model, self.model.steps_per_execution
        if keras.config.backend() == "tensorflow":
            run = _in_a_graph(model, model.train_step, self._feed, self._waiting)
        else:
            run = _in_python(model.train_function, self._waiting)
        model.train_function = _counted(run, self._feed.steps, at_once)
        if self._held_out.prepare:
            run = _in_a_graph(model, model.test_step, self._held_out, Waiting())
            model.test_function = _counted(run, self._held_out.steps, at_once)

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        self.model.train_function = self.model.test_function = None  # the next fit is of other steps


def _counted(run: Callable[..., Any], steps: int, at_once: int) -> Callable[..., Any]:
    """Runs `at_once` steps for each call, and fewer where the epoch ends."""
    done = 0

    def some_steps(*arguments: Any) -> Any:
        nonlocal done
        count = min(at_once, steps - done)
        done = (done + count) % steps
        return run(count, *arguments)

    return some_steps


def _in_python(train_function: Callable[..., Any], waiting: Waiting) -> Callable[..., Any]:
    def run(count: int, *arguments: Any) -> Any:
        *state, batches = arguments  # JAX passes the state of the model first
        return train_function(*state, waiting.timed(islice(batches, count)))

    return run


def _in_a_graph(model: keras.Model, step: Callable[..., Any], feed: Feed, waiting: Waiting) -> Callable[..., Any]:
    """Steps in one graph: for small models, calling TensorFlow from Python takes longer than a step."""
    import tensorflow as tf

    strategy = model.distribute_strategy
    with tf.device("CPU"):
        waited = tf.Variable(0.0, dtype=tf.float64)
    waiting.add_source(lambda: float(strategy.experimental_local_results(waited)[0]))
    compiled = tf.function(step, reduce_retracing=True, jit_compile=model.jit_compile)
    prepare = feed.prepare or (lambda batch: batch)

    def one(batches: Any) -> Any:
        start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = next(batches)
        parts = [part for value in tf.nest.flatten(batch) for part in strategy.experimental_local_results(value)]
        with tf.control_dependencies(parts):
            waited.assign_add(tf.timestamp() - start)
        logs = strategy.run(compiled, args=(prepare(batch),))
        # Those of one device: at the end of an epoch, Keras takes the figures from the metrics themselves.
        return tf.nest.map_structure(lambda log: strategy.experimental_local_results(log)[0], logs)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def run(count: Any, batches: Any) -> Any:
        logs = one(batches)
        for _ in tf.range(1, count):
            logs = one(batches)
        return logs

    return lambda count, batches: run(tf.constant(count), batches)
