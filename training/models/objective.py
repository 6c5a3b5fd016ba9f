"""Loss and metrics while training, for each kind of task, in Keras operations that every backend has.

Labels are float32 [batch, 1] for binary tasks, the index as float32 [batch, 1] for multiclass ones, and float32 [batch,
classes] for multilabel ones, where UNCERTAIN is left out of the loss and of all metrics.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from schemas.labels import UNCERTAIN
from training.task import BINARY, MULTICLASS, Task

_STEPS = 1000  # of probabilities, for the areas while training; assessment/metrics.py computes them exactly

# What keras.ops takes and gives, a tensor of the backend.
Tensor = Any


def loss_of(task: Task, finding_weights: Sequence[tuple[float, float]] | None = None) -> Any:
    """The loss: binary cross-entropy, categorical cross-entropy, or the mean over the findings of their binary
    cross-entropies. `finding_weights`: of multilabel tasks, the weights of a present and of an absent finding, for each
    class."""
    if task.kind == BINARY:
        return "binary_crossentropy"
    if task.kind == MULTICLASS:
        return "sparse_categorical_crossentropy"
    return MaskedBinaryCrossentropy(finding_weights)


def metrics_of(task: Task) -> list[keras.metrics.Metric]:
    """`accuracy` (at 0.5 for each output that is a sigmoid) and `auc`, the area under the ROC curve, averaged over
    classes."""
    if task.kind == BINARY:
        return [
            keras.metrics.BinaryAccuracy(name="accuracy"),
            keras.metrics.AUC(num_thresholds=_STEPS, name="auc"),
        ]
    if task.kind == MULTICLASS:
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), MacroAUC(task.outputs, one_hot=True)]
    return [MaskedAccuracy(name="accuracy"), MacroAUC(task.outputs, one_hot=False)]


class MaskedBinaryCrossentropy(keras.losses.Loss):  # type: ignore[misc] # untyped
    """The binary cross-entropy of each finding that is not UNCERTAIN, summed and divided by the number of findings.

    `weights`: (present, absent) for each class, which multiply its terms.
    """

    def __init__(self, weights: Sequence[tuple[float, float]] | None = None) -> None:
        super().__init__(name="masked_binary_crossentropy")
        self._weights = weights

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_true, mask = _masked(y_true)
        p = ops.clip(y_pred, keras.config.epsilon(), 1 - keras.config.epsilon())
        present, absent = -y_true * ops.log(p), -(1 - y_true) * ops.log(1 - p)
        if self._weights is not None:
            present, absent = (
                terms * ops.convert_to_tensor(list(column), "float32")
                for terms, column in zip((present, absent), zip(*self._weights, strict=True), strict=True)
            )
        return ops.mean((present + absent) * mask, axis=-1)


class MaskedAccuracy(keras.metrics.Mean):  # type: ignore[misc] # untyped
    """The share of the certain findings that are predicted right at 0.5."""

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:  # noqa: ARG002
        y_true, mask = _masked(y_true)
        right = ops.cast(ops.equal(y_true, ops.cast(y_pred >= 0.5, "float32")), "float32")
        super().update_state(right, mask)


class MacroAUC(keras.metrics.Metric):  # type: ignore[misc] # untyped
    """The mean of the areas under the ROC curves of the classes that have both positive and negative examples.

    `one_hot`: the labels are indices of classes, and each class is compared with all others. Probabilities are rounded to
    _STEPS equal steps: the area is the share of pairs of a positive and a negative example in which the positive one is in
    a higher step, ties counting half.
    """

    def __init__(self, classes: int, one_hot: bool) -> None:
        super().__init__(name="auc")
        self._direction = "up"
        self._classes, self._one_hot = classes, one_hot
        self._positive, self._negative = (
            self.add_variable((classes * _STEPS,), "zeros", name=name) for name in ("positive", "negative")
        )

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:  # noqa: ARG002
        if self._one_hot:
            y_true = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), self._classes)
        y_true, mask = _masked(y_true)
        step = ops.clip(ops.floor(ops.cast(y_pred, "float32") * _STEPS), 0, _STEPS - 1)
        place = ops.reshape(ops.cast(step + _STEPS * ops.arange(self._classes, dtype="float32"), "int32"), (-1,))
        for counts, of_kind in ((self._positive, y_true), (self._negative, 1 - y_true)):
            counts.assign_add(ops.segment_sum(ops.reshape(of_kind * mask, (-1,)), place, self._classes * _STEPS))

    def result(self) -> Tensor:
        positive, negative = (ops.reshape(each, (self._classes, _STEPS)) for each in (self._positive, self._negative))
        below = ops.cumsum(negative, axis=1) - negative / 2
        pairs = ops.sum(positive, axis=1) * ops.sum(negative, axis=1)
        areas = ops.divide_no_nan(ops.sum(positive * below, axis=1), pairs)
        return ops.divide_no_nan(ops.sum(areas), ops.sum(ops.cast(pairs > 0, "float32")))


def _masked(y_true: Tensor) -> tuple[Tensor, Tensor]:
    """Labels with 0 in place of UNCERTAIN, and a mask that is 0 there; both float32."""
    y_true = ops.cast(y_true, "float32")
    mask = ops.cast(ops.not_equal(y_true, UNCERTAIN), "float32")
    return y_true * mask, mask
