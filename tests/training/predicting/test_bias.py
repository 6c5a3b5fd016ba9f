"""Calibration with a bias agrees with a logistic regression, and serves prior correction where a temperature does not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from schemas.labels import CLASS, MULTI_HOT
from training.decisions.calibration import fit_temperature, scaled
from training.decisions.prior import adapt_prior
from training.predicting.bias import bias_corrected, fit_bias
from training.task import Task

TWO, THREE = Task(("A", "B"), CLASS), Task(("A", "B", "C"), CLASS)


def expit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-values))


def two(share: float, seed: int, count: int = 4000) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, and probabilities [count, 1] that are too certain and too high."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < share).astype(np.int64)
    return labels, expit(3 * rng.normal(2 * labels - 1, 1) + 2)[:, None]


def test_two_classes_are_a_logistic_regression() -> None:
    labels, p = two(0.3, 0)
    fitted = fit_bias(labels, p, TWO)
    assert fitted is not None
    # Each example once with each label, with Platt's targets as weights.
    counts = np.bincount(labels)
    own = ((counts + 1) / (counts + 2))[labels]
    logits = np.log(p / (1 - p))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(np.vstack([logits] * 2), np.append(labels, 1 - labels), np.append(own, 1 - own))
    np.testing.assert_allclose(fitted["slope"], model.coef_[0, 0], rtol=1e-4)
    np.testing.assert_allclose(fitted["bias"], [0, model.intercept_[0]], rtol=1e-4)
    np.testing.assert_allclose(fitted["prior"], counts / 4000)
    corrected = bias_corrected(p, fitted)
    np.testing.assert_allclose(corrected[:, 0], model.predict_proba(logits)[:, 1], atol=1e-5)
    assert corrected.mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_several_classes_get_their_shares() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 3000, p=[0.5, 0.3, 0.2])
    scores = 4 * (rng.normal(size=(3000, 3)) + 1.5 * np.eye(3)[labels]) + [0, 2, -1]
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    fitted = fit_bias(labels, p, THREE)
    assert fitted is not None
    corrected = bias_corrected(p, fitted)
    np.testing.assert_allclose(corrected.sum(1), 1)
    np.testing.assert_allclose(corrected.mean(0), fitted["prior"], atol=2e-3)
    truth = 1.5 * scores / 4 - 1.5 * np.array([0, 2, -1]) / 4 + np.log([0.5, 0.3, 0.2])  # by Bayes
    expected = np.exp(truth) / np.exp(truth).sum(1, keepdims=True)
    np.testing.assert_allclose(corrected, expected, atol=0.05)


def test_prior_correction_needs_the_bias() -> None:
    labels, p = two(0.5, 2)
    fitted = fit_bias(labels, p, TWO)
    assert fitted is not None
    _, there = two(0.1, 3)
    with_bias, _ = adapt_prior(bias_corrected(there, fitted), fitted["prior"])
    temperature_only, _ = adapt_prior(scaled(there, fit_temperature(labels, p, TWO), TWO), fitted["prior"])
    assert with_bias[1] == pytest.approx(0.1, abs=0.02)
    assert abs(temperature_only[1] - 0.1) > 0.05


def test_what_is_told_apart_without_an_error_has_a_finite_slope() -> None:
    labels = np.repeat([0, 1], 50)
    fitted = fit_bias(labels, np.where(labels, 0.9, 0.1)[:, None], TWO)
    assert fitted is not None
    np.testing.assert_allclose(bias_corrected(np.array([[0.1], [0.9]]), fitted)[:, 0], [1 / 52, 51 / 52], atol=1e-4)


def test_what_has_no_classes_or_lacks_one() -> None:
    assert fit_bias(np.zeros((4, 2), np.int64), np.full((4, 2), 0.5), Task(("A", "B"), MULTI_HOT)) is None
    assert fit_bias(np.array([0, 0, 1]), np.full((3, 3), 1 / 3), THREE) is None
