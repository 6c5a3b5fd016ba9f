"""What is explained of an image: the score of one class, before the last activation."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from schemas.errors import UsageError
from training.explanation.gradients import Tensor
from training.task import BINARY, Task


def score_model(model: keras.Model) -> keras.Model:
    """The model without its last activation, with the same weights and layers. Probabilities close to 0 or 1 hardly change,
    whatever an image shows (Selvaraju et al. 2017 use scores for the same reason). Where the last layer is not dense, the
    scores are the logarithms of the odds."""
    last = model.layers[-1]
    if not isinstance(last, layers.Dense):
        near = keras.config.epsilon()
        probability = ops.clip(model.output, near, 1 - near)
        return keras.Model(model.input, ops.log(probability) - ops.log(1 - probability))
    linear = layers.Dense(last.units, use_bias=last.use_bias, dtype="float32", name="score")
    scores = linear(last.input)
    linear.set_weights(last.get_weights())
    return keras.Model(model.input, scores)


def target_of(task: Task, probabilities: Sequence[float], name: str | None) -> str:
    """The class to explain: `name`, the second of two classes, or the most probable one."""
    if name is not None:
        return name
    return task.classes[1] if task.kind == BINARY else task.classes[int(np.argmax(probabilities))]


def check_target(task: Task, name: str | None) -> None:
    """Raises UsageError, naming the classes, if `name` is not one of them."""
    if name is not None and name not in task.classes:
        raise UsageError(f"--target {name}: the run knows {', '.join(task.classes)}")


def score_of(scores: Tensor, task: Task, target: str) -> Tensor:
    """[batch] of the class `target`, from the scores [batch, outputs]. That of the first of two classes is the negative one
    of the second."""
    index = task.classes.index(target)
    if task.kind == BINARY:
        return scores[:, 0] if index else -scores[:, 0]
    return scores[:, index]
