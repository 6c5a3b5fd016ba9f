"""Figures against scikit-learn, published values and counts made by hand."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from training.metrics.intervals import auroc_interval, wilson_interval
from training.metrics.two_classes import binary_cross_entropy, evaluate_predictions, operating_point

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
    for point, at in ((figures, 0.6), (figures["at_threshold_0.5"], 0.5)):
        called = probabilities >= at
        assert point["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, called))
        assert point["ppv"] == pytest.approx(sk.precision_score(labels, called))
        assert point["npv"] == pytest.approx(sk.precision_score(labels, called, pos_label=0))
        assert point["f1"] == pytest.approx(sk.f1_score(labels, called))
        assert point["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, called))
        for name in ("accuracy", "sensitivity", "specificity", "ppv", "npv", "balanced_accuracy", "f1", "mcc"):
            low, high = point["intervals"][name]
            assert low < point[name] < high
    assert figures["brier"] == pytest.approx(sk.brier_score_loss(labels, probabilities))
    assert figures["prevalence"] == labels.mean()
    assert "at_prevalence" not in figures
    assert figures["notes"] == []


def test_predictive_values_at_another_prevalence_are_those_of_a_weighted_set() -> None:
    labels, probabilities = many()
    found = evaluate_predictions(labels, probabilities, 0.6, prevalence=0.05)["at_prevalence"]
    weights = np.where(labels == 1, 0.05 / labels.mean(), 0.95 / (1 - labels.mean()))
    for name, label in (("ppv", 1), ("npv", 0)):
        expected = sk.precision_score(labels, probabilities >= 0.6, pos_label=label, sample_weight=weights)
        assert found[name] == pytest.approx(expected)
        assert found["intervals"][name][0] < found[name] < found["intervals"][name][1]
    own = evaluate_predictions(labels, probabilities, 0.6, prevalence=labels.mean())
    assert own["at_prevalence"]["ppv"] == pytest.approx(own["ppv"])
    assert own["at_prevalence"]["npv"] == pytest.approx(own["npv"])


class TestPatients:
    def test_copies_of_an_image_narrow_no_interval(self) -> None:
        labels, probabilities = many(150)
        once = evaluate_predictions(labels, probabilities, 0.6)
        patients = np.array([f"patient {number}" for number in range(150)], "S")
        four = [np.repeat(column, 4) for column in (labels, probabilities, patients)]
        found = evaluate_predictions(four[0], four[1], 0.6, four[2])
        assert (found["examples"], found["patients"], once["patients"]) == (600, 150, 150)
        alone, together = once["intervals"], found["intervals"]
        for name in ("loss", "brier", "balanced_accuracy", "f1", "mcc"):  # from the same samples of the patients
            assert together[name] == pytest.approx(alone[name], abs=0.02), name
        for name in (
            "accuracy",
            "sensitivity",
            "specificity",
            "ppv",
            "npv",
            "auroc",
            "auprc",
        ):  # by formula, and by bootstrap
            width, expected = (high - low for low, high in (together[name], alone[name]))
            assert 0.75 * expected < width < 1.33 * expected, name
        assert "bootstrap samples of the patients" in together["methods"]["auroc"]
        assert alone["methods"]["auroc"] == "DeLong, logit scale"

    def test_a_proportion_of_1_has_wilsons_interval_of_the_patients(self) -> None:
        labels, patients = np.array([1] * 8 + [0] * 4), np.array(list("aabbccddeeff"), "S")
        point = operating_point(labels, np.where(labels == 1, 0.9, 0.8), 0.5, patients)
        assert point["intervals"]["sensitivity"] == wilson_interval(4, 4)
        assert point["intervals"]["specificity"] == wilson_interval(0, 2)
        assert point["npv"] is None
        assert point["intervals"]["npv"] is None

    def test_the_same_every_time(self) -> None:
        assert evaluate_predictions(*many(), 0.5) == evaluate_predictions(*many(), 0.5)


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
