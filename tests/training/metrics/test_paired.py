"""Differences between models against patients drawn one by one with scikit-learn's figures, and McNemar's test against the
sum of binomial probabilities."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from sklearn import metrics as sk

from schemas.labels import MULTI_HOT, UNCERTAIN
from training.metrics import bootstrap
from training.metrics.paired import Predicted, differences, mcnemar, right
from training.task import Task

TWO = Task(("A", "B"))
THREE = Task(("A", "B", "C"))
FINDINGS = Task(("A", "B"), MULTI_HOT)
Figure = Callable[[np.ndarray, Predicted], float]
PATIENTS = np.repeat([f"{number}" for number in range(40)], 3).astype("S")


@pytest.fixture(autouse=True)
def _fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)


def drawn() -> list[np.ndarray]:
    """The rows of each sample of the patients."""
    rng, names = np.random.default_rng(0), np.unique(PATIENTS)
    return [
        np.concatenate([np.flatnonzero(name == PATIENTS) for name in names[rng.integers(0, len(names), len(names))]])
        for _ in range(200)
    ]


def noisy(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    return np.round(share * labels + (1 - share) * np.random.default_rng(seed).random(labels.shape), 2)


def test_differences_of_two_classes() -> None:
    labels = np.random.default_rng(5).integers(0, 2, 120)
    models = [
        Predicted(noisy(labels, share, seed)[:, np.newaxis], [at])
        for seed, (share, at) in enumerate(((0.2, 0.5), (0.3, 0.6), (0.1, 0.3)))
    ]
    found = differences(labels, models, TWO, PATIENTS)
    assert len(found) == 2
    figures: dict[str, Figure] = {
        "auroc": lambda rows, model: sk.roc_auc_score(labels[rows], model.probabilities[rows, 0]),
        "accuracy": lambda rows, model: np.mean((model.probabilities[rows, 0] >= model.thresholds[0]) == labels[rows]),
        "sensitivity": lambda rows, model: sk.recall_score(
            labels[rows], model.probabilities[rows, 0] >= model.thresholds[0]
        ),
        "specificity": lambda rows, model: sk.recall_score(
            labels[rows], model.probabilities[rows, 0] >= model.thresholds[0], pos_label=0
        ),
    }
    for model, entry in zip(models[1:], found, strict=True):
        assert set(entry) == set(figures)
        for name, figure in figures.items():
            every = np.arange(120)
            assert entry[name]["difference"] == pytest.approx(figure(every, model) - figure(every, models[0]))
            samples = [figure(rows, model) - figure(rows, models[0]) for rows in drawn()]
            assert entry[name]["interval"] == pytest.approx(np.percentile(samples, [2.5, 97.5]))


def test_pairing_narrows_the_interval_of_models_that_err_alike() -> None:
    labels = np.random.default_rng(6).integers(0, 2, 120)
    hard = noisy(labels, 0.3, 1)
    other = Predicted((0.9 * hard + 0.1 * noisy(labels, 0.3, 2))[:, np.newaxis], [0.5])
    (found,) = differences(labels, [Predicted(hard[:, np.newaxis], [0.5]), other], TWO, PATIENTS)
    low, high = found["auroc"]["interval"]
    alone = [sk.roc_auc_score(labels[rows], hard[rows]) for rows in drawn()]
    assert high - low < 0.5 * np.ptp(np.percentile(alone, [2.5, 97.5]))


def test_a_model_does_not_differ_from_itself_and_one_class_has_no_area() -> None:
    labels = np.ones(120, np.int64)
    model = Predicted(noisy(labels, 0.3, 1)[:, np.newaxis], [0.5])
    (found,) = differences(labels, [model, model], TWO, PATIENTS)
    assert found["sensitivity"] == {"difference": 0.0, "interval": None}
    assert found["auroc"] == found["specificity"] == {"difference": None, "interval": None}


def test_differences_of_several_classes_are_of_the_macro_average() -> None:
    labels = np.random.default_rng(7).integers(0, 3, 120)
    scores = [noisy(np.eye(3)[labels], share, seed) for seed, share in enumerate((0.2, 0.4))]
    models = [Predicted(each / each.sum(1, keepdims=True), [0.5] * 3) for each in scores]
    (found,) = differences(labels, models, THREE, PATIENTS)
    assert set(found) == {"macro_auroc", "accuracy"}
    area = partial(sk.roc_auc_score, multi_class="ovr", labels=[0, 1, 2])
    figures: dict[str, Figure] = {
        "macro_auroc": lambda rows, model: area(labels[rows], model.probabilities[rows]),
        "accuracy": lambda rows, model: np.mean(model.probabilities[rows].argmax(1) == labels[rows]),
    }
    for name, figure in figures.items():
        every = np.arange(120)
        assert found[name]["difference"] == pytest.approx(figure(every, models[1]) - figure(every, models[0]))
        samples = [figure(rows, models[1]) - figure(rows, models[0]) for rows in drawn()]
        assert found[name]["interval"] == pytest.approx(np.percentile(samples, [2.5, 97.5]))


def test_differences_of_findings_leave_out_what_is_uncertain() -> None:
    labels = np.random.default_rng(8).integers(0, 2, (120, 2))
    models = [Predicted(noisy(labels, share, seed), [0.5] * 2) for seed, share in enumerate((0.2, 0.4))]
    labels[::7, 0] = UNCERTAIN
    (found,) = differences(labels, models, FINDINGS, PATIENTS)
    assert set(found) == {"macro_auroc"}

    def macro(model: Predicted) -> float:
        certain = [labels[:, c] != UNCERTAIN for c in range(2)]
        each = [sk.roc_auc_score(labels[some, c], model.probabilities[some, c]) for c, some in enumerate(certain)]
        return float(np.mean(each))

    assert found["macro_auroc"]["difference"] == pytest.approx(macro(models[1]) - macro(models[0]))
    assert differences(np.ones((120, 2), np.int64), models, FINDINGS, PATIENTS) == [{}]


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 3), (1, 7), (12, 2), (0, 5)])
def test_mcnemar(only_first: int, only_second: int) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True, True, False])
    second = np.array([False] * only_first + [True] * only_second + [True, True, False])
    found = mcnemar(first, second)
    assert (found["only_the_first_is_right"], found["only_this_is_right"]) == (only_first, only_second)
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, count) for count in range(fewer + 1)) / 2**total
    assert found["p_value"] == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(second, first)["p_value"] == pytest.approx(found["p_value"])


def test_who_is_right() -> None:
    two = Predicted(np.array([[0.3], [0.4], [0.7]]), [0.4])
    assert right(np.array([0, 0, 1]), two, TWO).tolist() == [True, False, True]
    three = Predicted(np.array([[0.6, 0.3, 0.1], [0.1, 0.4, 0.5]]), [0.5] * 3)
    assert right(np.array([0, 1]), three, THREE).tolist() == [True, False]
