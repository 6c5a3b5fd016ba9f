"""Loss, optimizer and metrics while training, for each kind of task, in Keras operations that every backend has.

Labels are float32 [batch, 1] for binary tasks, the index as float32 [batch, 1] for multiclass ones, and float32 [batch,
classes] for multilabel ones, where UNCERTAIN is left out of the loss and of all metrics.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from schemas.dataset import Manifest
from schemas.labels import UNCERTAIN
from training.models.networks import FLOAT16, FLOAT32
from training.models.recipes import COSINE, Recipe
from training.task import BINARY, MULTICLASS, MULTILABEL, Task

_STEPS = 1000  # of probabilities, for the areas while training; metrics/two_classes.py computes them exactly

# What keras.ops takes and gives, a tensor of the backend.
Tensor = Any


def compile_model(
    model: keras.Model,
    recipe: Recipe,
    task: Task,
    manifest: Manifest | None = None,
    dtype: str = FLOAT32,
    jit_compile: bool | str = "auto",
    certain: Sequence[int] | None = None,
) -> None:
    """Compiles `model` with the recipe's optimizer and the loss and the metrics of the task.

    manifest: of the data set that is trained on: a balanced loss counts its findings, and a schedule its steps. dtype: the
    Keras policy of the hidden layers. certain: for each finding, the number of training examples in which it is not
    UNCERTAIN; all of them by default.
    """
    optimizer = _optimizer(recipe, manifest)
    if dtype == FLOAT16:  # gradients below 6e-8 would be zero in 16 bits
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    weights = None
    if recipe.balanced and manifest and task.kind == MULTILABEL:
        counts = manifest.label_counts("train")
        weights = list(map(finding_weights, counts, certain or [manifest.examples("train")] * len(counts)))
    loss = loss_of(task, weights, recipe.label_smoothing)
    model.compile(optimizer, loss=loss, weighted_metrics=metrics_of(task), jit_compile=jit_compile)
    _make_variables(model, task)


def _optimizer(recipe: Recipe, manifest: Manifest | None) -> keras.optimizers.Optimizer:
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == COSINE and manifest:
        steps = -(-manifest.examples("train") // recipe.batch_size)
        rising = max(1, steps // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 20,
            max(1, steps * recipe.epochs - rising),
            warmup_target=recipe.learning_rate,
            warmup_steps=rising,
        )
    if not recipe.weight_decay:
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    # Shrinking scales and offsets does not regularise.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _make_variables(model: keras.Model, task: Task) -> None:
    """Makes the variables of the optimizer and the metrics. Keras makes them with the first step, which TensorFlow then
    traces twice, and a checkpoint needs them before."""
    model.optimizer.build(model.trainable_variables)
    targets, predictions = ops.zeros((1, task.label_width or 1)), ops.zeros((1, task.outputs))
    model.compute_metrics(None, targets, predictions)
    model.reset_metrics()


def class_weights(counts: tuple[int, ...]) -> list[float]:
    """Weights with mean 1 over the examples that make every class count the same; 0 for a class without examples."""
    return [sum(counts) / (sum(map(bool, counts)) * count) if count else 0.0 for count in counts]


def finding_weights(present: int, examples: int) -> tuple[float, float]:
    """Weights with mean 1 over `examples`, in which the finding is not UNCERTAIN, that make the images with and without it
    count the same."""
    present_weight, absent_weight = class_weights((present, examples - present))
    return present_weight, absent_weight


def loss_of(
    task: Task, finding_weights: Sequence[tuple[float, float]] | None = None, label_smoothing: float = 0.0
) -> Any:
    """The loss: binary cross-entropy, categorical cross-entropy, or the mean over the findings of their binary
    cross-entropies. `finding_weights`: of multilabel tasks, the weights of a present and of an absent finding, for each
    class."""
    if task.kind == BINARY:
        return (
            keras.losses.BinaryCrossentropy(label_smoothing=label_smoothing)
            if label_smoothing
            else "binary_crossentropy"
        )
    if task.kind == MULTICLASS:
        return (
            SmoothedCategoricalCrossentropy(label_smoothing) if label_smoothing else "sparse_categorical_crossentropy"
        )
    return MaskedBinaryCrossentropy(finding_weights, label_smoothing)


def metrics_of(task: Task) -> list[keras.metrics.Metric]:
    """`accuracy` (at 0.5 for each output that is a sigmoid) and `auc`, the area under the ROC curve, averaged over
    classes. Every example counts once, whatever its weight in the loss, and not at all if its weight is 0."""
    if task.kind == BINARY:
        return [
            CountedBinaryAccuracy(name="accuracy"),
            CountedAUC(num_thresholds=_STEPS, name="auc"),
        ]
    if task.kind == MULTICLASS:
        return [CountedCategoricalAccuracy(name="accuracy"), MacroAUC(task.outputs, one_hot=True)]
    return [MaskedAccuracy(name="accuracy"), MacroAUC(task.outputs, one_hot=False)]


class MaskedBinaryCrossentropy(keras.losses.Loss):  # type: ignore[misc] # untyped
    """The binary cross-entropy of each finding that is not UNCERTAIN, summed and divided by the number of findings.

    `weights`: (present, absent) for each class, which multiply its terms. `label_smoothing` moves targets towards 0.5.
    """

    def __init__(self, weights: Sequence[tuple[float, float]] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__(name="masked_binary_crossentropy")
        self._weights, self._label_smoothing = weights, label_smoothing

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_true, mask = _masked(y_true)
        y_true = y_true * (1 - self._label_smoothing) + self._label_smoothing / 2
        p = ops.clip(y_pred, keras.config.epsilon(), 1 - keras.config.epsilon())
        present, absent = -y_true * ops.log(p), -(1 - y_true) * ops.log(1 - p)
        if self._weights is not None:
            present, absent = (
                terms * ops.convert_to_tensor(list(column), "float32")
                for terms, column in zip((present, absent), zip(*self._weights, strict=True), strict=True)
            )
        return ops.mean((present + absent) * mask, axis=-1)


class SmoothedCategoricalCrossentropy(keras.losses.Loss):  # type: ignore[misc] # untyped
    """Categorical cross-entropy from indices of classes, with `label_smoothing` shared by all classes."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(name="smoothed_categorical_crossentropy")
        self._label_smoothing = label_smoothing

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        one_hot = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), y_pred.shape[-1])
        return keras.losses.categorical_crossentropy(one_hot, y_pred, label_smoothing=self._label_smoothing)


class _Counted:
    """A metric of Keras in which an example counts once, or not at all if its weight is 0."""

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Any:
        return super().update_state(y_true, y_pred, _counts(sample_weight))  # type: ignore[misc] # of the metric


class CountedBinaryAccuracy(_Counted, keras.metrics.BinaryAccuracy):  # type: ignore[misc] # untyped
    """The share of the examples that are predicted right at 0.5."""


class CountedCategoricalAccuracy(_Counted, keras.metrics.SparseCategoricalAccuracy):  # type: ignore[misc] # untyped
    """The share of the examples whose most probable class is theirs."""


class CountedAUC(_Counted, keras.metrics.AUC):  # type: ignore[misc] # untyped
    """The area under the ROC curve."""


class MaskedAccuracy(keras.metrics.Mean):  # type: ignore[misc] # untyped
    """The share of the certain findings that are predicted right at 0.5."""

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        y_true, mask = _masked(y_true, sample_weight)
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

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        if self._one_hot:
            y_true = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), self._classes)
        y_true, mask = _masked(y_true, sample_weight)
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


def _counts(sample_weight: Tensor) -> Tensor:
    """1 where a weight is not 0."""
    return None if sample_weight is None else ops.cast(ops.not_equal(sample_weight, 0), "float32")


def _masked(y_true: Tensor, sample_weight: Tensor = None) -> tuple[Tensor, Tensor]:
    """Labels with 0 in place of UNCERTAIN, and a mask that is 0 there and for examples of weight 0; both float32."""
    y_true = ops.cast(y_true, "float32")
    mask = ops.cast(ops.not_equal(y_true, UNCERTAIN), "float32")
    if sample_weight is not None:
        mask = mask * ops.reshape(_counts(sample_weight), (-1, 1))
    return y_true * mask, mask
