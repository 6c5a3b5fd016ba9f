"""Weighted figures against scikit-learn, and samples of patients against drawing them one by one."""

import numpy as np
import pytest
from sklearn import metrics as sk

from training.metrics import bootstrap
from training.metrics.bootstrap import basic, independent, members_of, percentiles, resampled
from training.metrics.weighted import Ranking, means, rates


@pytest.fixture
def examples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with ties, and weights of 20 samples."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 80)
    return labels, np.round(0.3 * labels + 0.7 * rng.random(80), 1), rng.integers(0, 4, (20, 80)).astype(float)


def test_weighted_figures(examples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, probabilities, weights = examples
    called = probabilities >= 0.5
    areas = Ranking(labels, probabilities).areas(weights)
    found = rates(weights @ np.eye(4)[2 * labels + called])
    for sample, mine in enumerate(weights):
        expected = {
            "auroc": sk.roc_auc_score(labels, probabilities, sample_weight=mine),
            "auprc": sk.average_precision_score(labels, probabilities, sample_weight=mine),
        }
        for name, value in expected.items():
            assert areas[name][sample] == pytest.approx(value)
        for name, score in (
            *(("accuracy", sk.accuracy_score), ("balanced_accuracy", sk.balanced_accuracy_score)),
            *(("f1", sk.f1_score), ("mcc", sk.matthews_corrcoef), ("ppv", sk.precision_score)),
        ):
            assert found[name][sample] == pytest.approx(score(labels, called, sample_weight=mine)), name


def test_a_sample_of_one_class_has_no_area() -> None:
    ranking = Ranking(np.array([0, 1, 1]), np.array([0.2, 0.4, 0.3]))
    found = ranking.areas(np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(found["auroc"], [1, np.nan, np.nan])


def test_samples_are_of_whole_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 50)
    patients, values = np.array(list("babacdd"), "S"), np.arange(7.0) ** 2
    members = members_of(patients, 7)
    found = resampled(members, figure=means(value=values))["figure"]["value"]
    rng = np.random.default_rng(0)
    for value in found:
        drawn = np.array([b"a", b"b", b"c", b"d"])[rng.integers(0, 4, 4)]
        assert value == pytest.approx(np.concatenate([values[patients == patient] for patient in drawn]).mean())
    monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", 20)
    np.testing.assert_array_equal(resampled(members, figure=means(value=values))["figure"]["value"], found)


def test_members() -> None:
    assert members_of(np.array([b"x", b"a", b"x"]), 3).tolist() == [1, 0, 1]
    assert members_of(None, 3).tolist() == [0, 1, 2]
    assert independent(members_of(None, 3))
    assert not independent(np.array([1, 0, 1]))


def test_intervals_from_samples() -> None:
    found = np.array([np.nan, *np.arange(101.0)])
    assert percentiles(found) == (2.5, 97.5)
    assert percentiles(np.full(5, np.nan)) is None
    assert percentiles(np.ones(5)) is None
    assert basic(np.arange(101.0), 60.0, 0.0, 110.0) == (22.5, 110.0)


def test_a_bootstrap_of_patients_covers_the_truth_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    inside = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        of_patient = rng.normal(size=60)
        members = np.repeat(np.arange(60), 5)
        values = of_patient[members] + 0.5 * rng.normal(size=300)
        interval = percentiles(resampled(members, figure=means(value=values))["figure"]["value"])
        assert interval is not None
        inside.append(interval[0] <= 0 <= interval[1])
    assert 0.88 <= np.mean(inside) <= 0.99
