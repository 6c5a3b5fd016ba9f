"""The function that every export computes. Needs TensorFlow."""

from typing import Any

import keras

from schemas.export import INPUT


def serving_function(model: keras.Model, output: str) -> Any:
    """A tf.function from `image`, uint8 [batch, height, width, channels], to {output: float32 [batch, outputs]}. The layers
    that act in training only are not in its graph."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, INPUT)])  # type: ignore[untyped-decorator]
    def serve(image: Any) -> Any:
        return {output: model(image, training=False)}

    return serve
