"""The prior of unlabelled images, where it is known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn import metrics as sk

from training.decisions.prior import adapt_prior


def ill(share: float, count: int = 20_000) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, this share of which are 1, and the probabilities [count, 1] of a perfect model of a set where half are."""
    rng = np.random.default_rng(0)
    labels = (rng.random(count) < share).astype(np.int64)
    signs = rng.normal(1.5 * labels, 1)
    return labels, (norm.pdf(signs, 1.5) / (norm.pdf(signs, 1.5) + norm.pdf(signs)))[:, None]


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_two_classes(share: float) -> None:
    labels, probabilities = ill(share)
    prior, correct = adapt_prior(probabilities, [0.5, 0.5])
    assert prior == pytest.approx([1 - share, share], abs=0.015)
    corrected = correct(probabilities)
    assert corrected.shape == probabilities.shape
    # Bayes' theorem with the estimated prior.
    odds = probabilities / (1 - probabilities) * prior[1] / prior[0]
    np.testing.assert_allclose(corrected, odds / (1 + odds), rtol=1e-5)
    assert corrected.mean() == pytest.approx(prior[1], abs=1e-6)
    assert sk.log_loss(labels, corrected[:, 0]) <= sk.log_loss(labels, probabilities[:, 0]) + 1e-4


def test_several_classes_and_a_prior_that_is_not_equal() -> None:
    rng = np.random.default_rng(1)
    trained, true = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.2, 0.6])
    labels = rng.choice(3, 20_000, p=true)
    signs = rng.normal(size=(20_000, 3)) + 2 * np.eye(3)[labels]
    joint = np.exp(2 * signs) * trained
    prior, correct = adapt_prior(joint / joint.sum(1, keepdims=True), trained)
    assert prior == pytest.approx(true, abs=0.015)
    corrected = correct(joint / joint.sum(1, keepdims=True))
    assert (corrected.argmax(1) == labels).mean() > (joint.argmax(1) == labels).mean()
    np.testing.assert_allclose(corrected.sum(1), 1)


def test_certain_probabilities() -> None:
    prior, correct = adapt_prior(np.array([[1.0], [1.0], [1.0]]), [0.5, 0.5])
    assert prior == pytest.approx([0, 1], abs=1e-6)
    assert np.isfinite(correct(np.array([[0.0], [0.5]]))).all()


def test_what_does_not_fit_is_refused() -> None:
    for probabilities, prior in (
        (np.ones((2, 3)), [0.5, 0.5]),
        (np.ones((2, 1)), [1.0, 0.0]),
        (np.ones((0, 1)), [0.5] * 2),
    ):
        with pytest.raises(ValueError, match="probabilities and a prior"):
            adapt_prior(probabilities, prior)
