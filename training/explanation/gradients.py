"""The gradient of a function in Keras operations: the one thing that Keras leaves to its backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

Tensor = Any


def gradient(function: Callable[[Tensor], Tensor], at: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The gradient of `function`, which gives a scalar, at the array `at`, in its shape. Raises UsageError for a backend
    other than TensorFlow and JAX."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        point = tf.convert_to_tensor(at)
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = function(point)
        return np.asarray(tape.gradient(value, point), np.float32)
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(at), np.float32)
    raise UsageError(f"--method gradcam needs TensorFlow or JAX, and Keras uses {backend}; set KERAS_BACKEND")
