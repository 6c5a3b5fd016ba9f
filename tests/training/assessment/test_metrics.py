"""Figures against scikit-learn, published values and counts made by hand."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from training.assessment.metrics import (
    auroc_interval,
    binary_cross_entropy,
    evaluate_predictions,
    operating_point,
    wilson_interval,
    youden_threshold,
)

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.45, 0.8, 0.3, 0.55, 0.6, 0.7, 0.9, 0.95])


def many(count: int = 400, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.7).astype(np.int64)
    return labels, np.round(
        1 / (1 + np.exp(-rng.normal(1.5 * labels - 0.5, 1.0))), 2
    )  # rounded, so that there are ties


def test_operating_point_by_hand() -> None:
    point = operating_point(LABELS, PROBABILITIES, 0.5)
    assert point["confusion_matrix"] == [[3, 1], [1, 5]]
    assert (point["accuracy"], point["sensitivity"], point["specificity"]) == (0.8, 5 / 6, 0.75)


def test_a_probability_at_the_threshold_is_positive() -> None:
    assert operating_point(np.array([1]), np.array([0.5]), 0.5)["confusion_matrix"] == [[0, 0], [0, 1]]


def test_against_scikit_learn_and_keras() -> None:
    labels, probabilities = many()
    figures = evaluate_predictions(labels, probabilities, 0.6)
    predicted = probabilities >= 0.6
    assert figures["examples"] == 400
    assert figures["auroc"] == pytest.approx(sk.roc_auc_score(labels, probabilities))
    assert figures["auprc"] == pytest.approx(sk.average_precision_score(labels, probabilities))
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert figures["sensitivity"] == pytest.approx(sk.recall_score(labels, predicted))
    assert figures["specificity"] == pytest.approx(sk.recall_score(labels, predicted, pos_label=0))
    assert figures["confusion_matrix"] == sk.confusion_matrix(labels, predicted).tolist()
    assert figures["loss"] == pytest.approx(sk.log_loss(labels, probabilities))
    assert figures["majority_class_accuracy"] == max(labels.mean(), 1 - labels.mean())
    assert figures["at_threshold_0.5"]["accuracy"] == sk.accuracy_score(labels, probabilities >= 0.5)
    assert figures["notes"] == []


def test_loss_is_keras_loss_where_probabilities_are_certain() -> None:
    labels, probabilities = np.array([1, 0, 1]), np.array([0.0, 0.25, 1.0])
    expected = keras.losses.BinaryCrossentropy()(labels[:, None], probabilities[:, None].astype(np.float32))
    assert binary_cross_entropy(labels, probabilities) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(hits: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


def test_auroc_interval_is_delong_by_its_definition() -> None:
    labels, probabilities = many()
    positive, negative = probabilities[labels == 1], probabilities[labels == 0]
    wins = np.sign(positive[:, None] - negative[None, :]) / 2 + 0.5  # every pair, as DeLong et al. write it
    variance = wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)
    interval = auroc_interval(labels, probabilities)
    assert interval is not None
    low, high = interval
    area = wins.mean()
    assert low < area < high
    logits = np.log([low / (1 - low), area / (1 - area), high / (1 - high)])
    np.testing.assert_allclose(np.diff(logits), 1.959964 * np.sqrt(variance) / (area * (1 - area)), rtol=1e-5)


def test_auroc_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    labels, probabilities = many(200_000)
    truth = sk.roc_auc_score(labels, probabilities)
    intervals = [interval for seed in range(1, 401) if (interval := auroc_interval(*many(150, seed)))]
    assert len(intervals) == 400
    assert 0.92 <= np.mean([low <= truth <= high for low, high in intervals]) <= 0.98


class TestOneClass:
    @pytest.mark.parametrize(
        ("label", "absent", "present"), [(0, "sensitivity", "specificity"), (1, "specificity", "sensitivity")]
    )
    def test_undefined_figures_are_none_with_a_note(self, label: int, absent: str, present: str) -> None:
        figures = evaluate_predictions(np.full(5, label), np.linspace(0.1, 0.9, 5), 0.5)
        assert figures[absent] is None
        assert figures["intervals"][absent] is None
        assert figures["auroc"] is None
        assert figures["auprc"] is None
        assert figures["intervals"]["auroc"] is None
        assert figures[present] == figures["accuracy"]
        assert figures["majority_class_accuracy"] == 1
        assert len(figures["notes"]) == 1

    def test_perfect_separation_has_no_auroc_interval_and_says_so(self) -> None:
        figures = evaluate_predictions(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]), 0.5)
        assert figures["auroc"] == 1
        assert figures["intervals"]["auroc"] is None
        assert "no interval" in figures["notes"][0]


class TestYouden:
    def test_half_way_below_the_best_probability(self) -> None:
        # At 0.55: 5 of 6 and 3 of 4; no other cut has a higher sum.
        assert youden_threshold(LABELS, PROBABILITIES) == pytest.approx((0.55 + 0.45) / 2)

    def test_no_threshold_does_better(self) -> None:
        labels, probabilities = many()
        chosen = operating_point(labels, probabilities, youden_threshold(labels, probabilities))
        best = chosen["sensitivity"] + chosen["specificity"]
        for threshold in np.arange(0, 1.001, 0.005):
            point = operating_point(labels, probabilities, threshold)
            assert point["sensitivity"] + point["specificity"] <= best + 1e-12

    def test_a_model_that_is_always_wrong_calls_nothing_positive(self) -> None:
        assert youden_threshold(np.array([1, 1, 0, 0]), np.array([0.1, 0.2, 0.8, 0.9])) == 1.0
