"""The functions with which Keras runs steps with TensorFlow: as many as an epoch has, counting the time spent waiting.

Keras runs `steps_per_execution` steps at a time, also where fewer are left in the epoch, so with endless batches it would
take some of the next epoch. And it does not say whether the input or the device was the slower one. With other backends,
the batches end with the epoch, and the feed measures.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from training.devices.feeds import Feed


class ExactSteps(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """Makes `fit` train and validate exactly the steps of the feeds, prepare their batches, and count the waiting of `feed`.

    It acts when Keras has built everything, before the first step. Keras calls its `train_function` and `test_function` with
    an iterator of batches.
    """

    def __init__(self, feed: Feed, held_out: Feed) -> None:
        super().__init__()
        self._feed, self._held_out = feed, held_out

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        self._feed.begin()
        self._held_out.begin()
        if keras.config.backend() != "tensorflow":
            return
        model, at_once = self.model, self.model.steps_per_execution
        run = _in_a_graph(model, model.train_step, self._feed)
        model.train_function = _counted(run, self._feed.steps, at_once)
        if self._held_out.prepare or at_once > 1:
            run = _in_a_graph(model, model.test_step, self._held_out)
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


def _in_a_graph(model: keras.Model, step: Callable[..., Any], feed: Feed) -> Callable[..., Any]:
    """Steps in one graph: for small models, calling TensorFlow from Python takes longer than a step."""
    import tensorflow as tf

    strategy = model.distribute_strategy
    with tf.device("CPU"):
        waited = tf.Variable(0.0, dtype=tf.float64)
    feed.waiting.add_source(lambda: float(strategy.experimental_local_results(waited)[0]))
    # As Keras does, without AutoGraph: to rewrite functions in which no tensor decides takes longer than to trace them.
    compiled = tf.function(step, autograph=False, reduce_retracing=True, jit_compile=model.jit_compile)
    prepare = feed.prepare or (lambda batch: batch)

    def one(batches: Any) -> Any:
        start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = batches.get_next()
        parts = [part for value in tf.nest.flatten(batch) for part in strategy.experimental_local_results(value)]
        with tf.control_dependencies(parts):
            waited.assign_add(tf.timestamp() - start)
        logs = strategy.run(compiled, args=(prepare(batch),))
        # Those of one device: at the end of an epoch, Keras takes the figures from the metrics themselves.
        return tf.nest.map_structure(lambda log: strategy.experimental_local_results(log)[0], logs)

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def run(count: Any, batches: Any) -> Any:
        logs = one(batches)
        if model.steps_per_execution == 1:  # a loop would trace and hold the step a second time
            return logs
        after = tf.while_loop(
            lambda done, _: done < count, lambda done, _: (done + 1, one(batches)), (tf.constant(1), logs)
        )
        return after[1]

    return lambda count, batches: run(tf.constant(count), batches)
