"""Metrics of several classes and of several findings, against scikit-learn and resampling one by one."""

import numpy as np
import pytest
from sklearn import metrics as sk

from schemas.labels import MULTI_HOT, UNCERTAIN
from training.metrics import bootstrap
from training.metrics.several_classes import evaluate_classes
from training.metrics.two_classes import evaluate_predictions
from training.task import Task

FINDINGS = Task(("A", "B", "C"), MULTI_HOT)


def findings(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = (rng.random((count, 3)) < (0.5, 0.2, 0.1)).astype(np.int64)
    labels[rng.random((count, 3)) < 0.1] = UNCERTAIN
    # Rounded, so that many probabilities are equal.
    return labels, np.round(rng.random((count, 3)) * 0.7 + 0.3 * (labels == 1), 2)


def test_each_finding_has_the_metrics_of_its_certain_images() -> None:
    labels, probabilities = findings()
    found = evaluate_classes(labels, probabilities, [0.4, 0.5, 0.6], FINDINGS)
    for index, (name, threshold) in enumerate(zip("ABC", (0.4, 0.5, 0.6), strict=True)):
        some = labels[:, index] != UNCERTAIN
        alone = evaluate_predictions(labels[some, index], probabilities[some, index], threshold)
        assert found["per_class"][name]["figures"] == alone
        assert found["per_class"][name]["positives"] == (labels[:, index] == 1).sum()
    certain = labels != UNCERTAIN
    for area, function in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score)):
        each = [function(labels[certain[:, c], c], probabilities[certain[:, c], c]) for c in range(3)]
        assert found["macro"][area] == pytest.approx(np.mean(each))
        assert found["micro"][area] == pytest.approx(function(labels[certain], probabilities[certain]))
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    losses = -np.where(labels == 1, np.log(p), np.log1p(-p))
    assert found["loss"] == pytest.approx(losses[certain].sum() / labels.size)


def test_intervals_of_averages_are_percentiles_of_resampled_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 100)
    labels, probabilities = findings(120)
    patients = np.array([f"{number // 2}" for number in range(120)], "S")
    found = evaluate_classes(labels, probabilities, [0.5] * 3, FINDINGS, patients)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(100):
        drawn = np.unique(patients)[rng.integers(0, 60, 60)]
        rows = np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])
        areas = []
        for c in range(3):
            some = rows[labels[rows, c] != UNCERTAIN]
            if 0 < labels[some, c].sum() < len(some):
                areas.append(sk.roc_auc_score(labels[some, c], probabilities[some, c]))
        values.append(np.mean(areas))
    assert found["macro"]["intervals"]["auroc"] == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_an_undefined_class_is_noted_and_left_out_of_the_averages() -> None:
    labels, probabilities = findings()
    labels[:, 1] = 0
    labels[:, 2] = UNCERTAIN
    found = evaluate_classes(labels, probabilities, [0.5] * 3, FINDINGS)
    assert found["macro"]["classes"] == 1
    assert found["macro"]["auroc"] == found["per_class"]["A"]["figures"]["auroc"]
    assert found["per_class"]["B"]["figures"]["auroc"] is None
    assert found["per_class"]["C"]["figures"] is None
    assert [note.split(":")[0] for note in found["notes"]] == ["no area for B", "no area for C"]
    nothing = evaluate_classes(labels[:, 1:], probabilities[:, 1:], [0.5] * 2, Task(("B", "C"), MULTI_HOT))
    assert nothing["macro"] is None
    assert nothing["micro"] is None


def test_several_classes_are_compared_with_the_rest() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 200)
    scores = rng.random((200, 4)) + 0.4 * np.eye(4)[labels]
    probabilities = scores / scores.sum(1, keepdims=True)
    found = evaluate_classes(labels, probabilities, [0.3] * 4, Task(tuple("ABCD")))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, probabilities.argmax(1)))
    assert found["accuracy_interval"][0] < found["accuracy"] < found["accuracy_interval"][1]
    assert found["confusion_matrix"] == sk.confusion_matrix(labels, probabilities.argmax(1)).tolist()
    assert found["loss"] == pytest.approx(sk.log_loss(labels, probabilities))
    assert found["macro"]["auroc"] == pytest.approx(sk.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, probabilities.argmax(1)))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, probabilities.argmax(1)))
    for name in ("loss", "balanced_accuracy", "mcc"):
        low, high = found["intervals"][name]
        assert low < found[name] < high
    assert found["majority_class_accuracy"] == np.bincount(labels).max() / 200
    sensitivity = sk.recall_score(labels == 2, probabilities[:, 2] >= 0.3)
    assert found["per_class"]["C"]["figures"]["sensitivity"] == pytest.approx(sensitivity)


def test_a_missing_class_leaves_scores_undefined() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    found = evaluate_classes(np.array([0, 1]), probabilities, [0.5] * 3, Task(tuple("ABC")))
    assert found["balanced_accuracy"] is None
    assert found["intervals"]["balanced_accuracy"] is None
    assert found["mcc"] == 1
