"""A TensorBoard profile of one epoch."""

from collections.abc import Mapping

import keras


class Profile(keras.callbacks.Callback):  # type: ignore[misc] # untyped
    """Profiles the steps of the epoch `epoch`, from 0, into `folder`. Works with TensorFlow and JAX."""

    def __init__(self, folder: str, epoch: int) -> None:
        super().__init__()
        self._folder, self._epoch, self._running = folder, epoch, False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if epoch == self._epoch:
            self._running = True
            if keras.config.backend() == "jax":
                import jax

                jax.profiler.start_trace(self._folder)
            else:
                import tensorflow as tf

                tf.profiler.experimental.start(self._folder)

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """The validation begins, so the steps are over."""
        if self._running:
            self._running = False
            if keras.config.backend() == "jax":
                import jax

                jax.profiler.stop_trace()
            else:
                import tensorflow as tf

                tf.profiler.experimental.stop()
