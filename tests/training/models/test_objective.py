"""Loss and metrics while training, against NumPy and scikit-learn."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from schemas.labels import MULTI_HOT, UNCERTAIN
from tests.training.conftest import DataSet
from training.models.networks import build_model
from training.models.objective import MaskedBinaryCrossentropy, compile_model, loss_of, metrics_of
from training.models.recipes import recipe
from training.task import Task

FINDINGS = Task(("A", "B", "C"), MULTI_HOT)
LABELS = np.array([[0, 1, UNCERTAIN], [1, UNCERTAIN, 0], [0, 0, UNCERTAIN], [1, 1, 0]], np.float32)
PROBABILITIES = np.array([[0.1, 0.8, 0.9], [0.6, 0.3, 0.4], [0.7, 0.6, 0.2], [0.9, 0.4, 0.1]], np.float32)


@pytest.mark.parametrize("weights", [None, [(2.0, 0.5), (1.0, 1.0), (3.0, 0.25)]])
def test_uncertain_findings_are_not_in_the_loss(weights: list[tuple[float, float]] | None) -> None:
    total = 0.0
    for row, column in np.argwhere(LABELS != UNCERTAIN):
        present, absent = weights[column] if weights else (1.0, 1.0)
        p = PROBABILITIES[row, column]
        total -= present * np.log(p) if LABELS[row, column] else absent * np.log(1 - p)
    assert float(loss_of(FINDINGS, weights)(LABELS, PROBABILITIES)) == pytest.approx(total / LABELS.size, rel=1e-5)


def test_an_uncertain_finding_has_no_gradient() -> None:
    loss = MaskedBinaryCrossentropy()
    changed = PROBABILITIES.copy()
    changed[LABELS == UNCERTAIN] = 0.5
    assert float(loss(LABELS, changed)) == float(loss(LABELS, PROBABILITIES))


def test_metrics_of_findings_leave_out_what_is_uncertain_or_undefined() -> None:
    accuracy, auc = metrics_of(FINDINGS)
    for rows in (slice(0, 2), slice(2, 4)):  # in two batches
        accuracy.update_state(LABELS[rows], PROBABILITIES[rows])
        auc.update_state(LABELS[rows], PROBABILITIES[rows])
    certain = LABELS != UNCERTAIN
    assert float(accuracy.result()) == pytest.approx(np.mean((PROBABILITIES >= 0.5)[certain] == LABELS[certain]))
    areas = [
        roc_auc_score(LABELS[certain[:, c], c], PROBABILITIES[certain[:, c], c]) for c in (0, 1)
    ]  # C is never there
    assert float(auc.result()) == pytest.approx(np.mean(areas), abs=1e-3)


def test_metrics_of_several_classes() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    scores = rng.random((300, 4)) + 0.4 * np.eye(4)[labels]
    probabilities = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    accuracy, auc = metrics_of(Task(tuple("ABCD")))
    for metric in (accuracy, auc):
        metric.update_state(labels[:, np.newaxis].astype(np.float32), probabilities)
    assert float(accuracy.result()) == pytest.approx(np.mean(probabilities.argmax(1) == labels))
    assert float(auc.result()) == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"), abs=2e-3)


def test_metrics_of_two_classes_are_those_of_keras() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (300, 1)).astype(np.float32)
    probabilities = (0.6 * rng.random((300, 1)) + 0.3 * labels).astype(np.float32)
    weights = np.tile([0.5, 2.0, 0.0], 100).astype(np.float32)  # of the loss; 0 is no example
    ours = metrics_of(Task(("A", "B")))
    for metric, peer in zip(
        ours, (keras.metrics.BinaryAccuracy(), keras.metrics.AUC(num_thresholds=1000)), strict=True
    ):
        metric.update_state(labels, probabilities, weights)
        peer.update_state(labels[weights > 0], probabilities[weights > 0])
        assert float(metric.result()) == pytest.approx(float(peer.result()), rel=1e-6)
    assert loss_of(Task(("A", "B"))) == "binary_crossentropy"


@pytest.mark.parametrize("task", [FINDINGS, Task(("A", "B", "C"))])
def test_an_example_of_weight_0_does_not_count(task: Task) -> None:
    labels = LABELS if task is FINDINGS else np.array([[0], [2], [1], [0]], np.float32)
    weights = np.array([3, 0, 1, 0], np.float32)
    for metric, without in zip(metrics_of(task), metrics_of(task), strict=True):
        metric.update_state(labels, PROBABILITIES, weights)
        without.update_state(labels[weights > 0], PROBABILITIES[weights > 0])
        assert float(metric.result()) == pytest.approx(float(without.result()))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing(smoothing: float) -> None:
    p = np.random.default_rng(0).uniform(0.05, 0.95, (40, 1)).astype(np.float32)
    y = (np.arange(40)[:, None] % 2).astype(np.float32)
    moved = y * (1 - smoothing) + smoothing / 2
    expected = -np.mean(moved * np.log(p) + (1 - moved) * np.log(1 - p))
    binary = keras.losses.get(loss_of(Task(("A", "B")), label_smoothing=smoothing))
    assert float(np.mean(binary(y, p))) == pytest.approx(expected, rel=1e-5)
    findings = loss_of(Task(("A",), MULTI_HOT), label_smoothing=smoothing)
    assert float(findings(y, p)) == pytest.approx(expected, rel=1e-5)
    q = np.concatenate([p, 1 - p], axis=1) * 0.5
    q = np.concatenate([q, np.full((40, 1), 0.5, np.float32)], axis=1)
    moved = np.eye(3)[y[:, 0].astype(int)] * (1 - smoothing) + smoothing / 3
    several = keras.losses.get(loss_of(Task(("A", "B", "C")), label_smoothing=smoothing))
    assert float(np.mean(several(y, q))) == pytest.approx(-np.mean((moved * np.log(q)).sum(1)), rel=1e-5)


def test_the_learning_rate_rises_and_falls_to_zero(dataset: DataSet) -> None:
    best = replace(recipe("best"), epochs=3, batch_size=8)  # 96 examples: 12 steps an epoch
    model = build_model(best, (64, 64, 1), Task(("A", "B")))
    compile_model(model, best, Task(("A", "B")), dataset.manifest)
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in range(37)]
    assert rates[0] == pytest.approx(best.learning_rate / 20)
    assert rates[6] == pytest.approx(best.learning_rate)
    assert rates[:7] == sorted(rates[:7])
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert rates[21] == pytest.approx(best.learning_rate / 2)  # half-way down
    assert rates[36] == pytest.approx(0, abs=1e-9)
    decayed = [v.path for v in model.trainable_variables if model.optimizer._use_weight_decay(v)]
    assert decayed
    assert all(path.endswith("kernel") for path in decayed)
