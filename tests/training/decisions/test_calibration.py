"""Calibration figures by their definitions, and temperatures that are known or found by trying."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn import metrics as sk

from schemas.labels import MULTI_HOT, UNCERTAIN
from training.decisions.calibration import calibrated, calibration_figures, fit_temperature, scaled
from training.metrics.bootstrap import members_of, resampled
from training.metrics.intervals import wilson_interval
from training.metrics.reliability import BINS, Reliability, bins_of
from training.runs.run_folder import RunConfig, read_config
from training.task import Task

TWO, THREE, FINDINGS = Task(("A", "B")), Task(tuple("ABC")), Task(("A", "B"), MULTI_HOT)


def overconfident(count: int = 4000, temperature: float = 2.5) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, and probabilities [count, 1] whose logits are too large by a factor."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.5, 2, count)
    return (rng.random(count) < expit(logits)).astype(np.int64), expit(logits * temperature)[:, None]


@pytest.fixture
def config(run: Path) -> RunConfig:
    return replace(read_config(str(run)), calibration={"temperature": 2.5})


class TestBins:
    def test_equal_numbers(self) -> None:
        counts = np.bincount(bins_of(np.random.default_rng(0).random(152)))
        assert len(counts) == BINS
        assert set(counts) == {10, 11}

    def test_equal_probabilities_are_together(self) -> None:
        predicted = np.array([0.0] * 90 + [0.5] * 3 + [1.0] * 7)
        bins = bins_of(predicted)
        assert len(np.unique(bins[:90])) == len(np.unique(bins[93:])) == 1
        assert set(bins) == set(range(bins.max() + 1))
        assert bins_of(np.array([0.3])).tolist() == [0]


def test_figures_by_their_definitions() -> None:
    labels, probabilities = overconfident(600)
    p = probabilities[:, 0]
    reliability = Reliability(p, labels, (p - labels) ** 2)
    members = members_of(None, 600)
    found = reliability.figures(resampled(members, each=reliability.statistics)["each"], members)
    order = np.argsort(p)
    parts = np.split(order, 15)  # no two are equal
    ece = sum(len(part) / 600 * abs(labels[part].mean() - p[part].mean()) for part in parts)
    assert found["ece"] == pytest.approx(ece)
    assert found["brier"] == pytest.approx(sk.brier_score_loss(labels, p))
    assert len(found["bins"]) == 15
    for part, entry in zip(parts, found["bins"], strict=True):
        assert entry["predicted"] == pytest.approx(p[part].mean())
        assert entry["observed"] == pytest.approx(labels[part].mean())
        assert entry["count"] == 40
        assert entry["interval"] == pytest.approx(wilson_interval(labels[part].sum(), 40))
    for name in ("ece", "brier"):
        assert found["intervals"][name][0] < found["intervals"][name][1]
    assert found["intervals"]["brier"][0] < found["brier"] < found["intervals"]["brier"][1]


class TestTemperature:
    def test_two_classes(self) -> None:
        labels, probabilities = overconfident()
        temperature = fit_temperature(labels, probabilities, TWO)
        assert temperature == pytest.approx(2.5, rel=0.1)
        best = sk.log_loss(labels, scaled(probabilities, temperature, TWO)[:, 0])
        for other in np.geomspace(0.5, 10, 50):
            assert best <= sk.log_loss(labels, scaled(probabilities, other, TWO)[:, 0]) + 1e-9

    def test_several_classes(self) -> None:
        rng = np.random.default_rng(1)
        logits = rng.normal(0, 2, (4000, 3))
        labels = np.array([rng.choice(3, p=row) for row in softmax(logits, axis=1)])
        probabilities = softmax(logits * 3, axis=1)
        temperature = fit_temperature(labels, probabilities, THREE)
        assert temperature == pytest.approx(3, rel=0.1)
        after = scaled(probabilities, temperature, THREE)
        np.testing.assert_allclose(after.sum(1), 1)
        np.testing.assert_array_equal(after.argmax(1), probabilities.argmax(1))

    def test_findings_share_one_and_uncertain_ones_do_not_count(self) -> None:
        labels, probabilities = overconfident()
        labels, probabilities = labels.reshape(-1, 2), probabilities.reshape(-1, 2)
        expected = fit_temperature(labels[:1000], probabilities[:1000], FINDINGS)
        labels[1000:] = UNCERTAIN
        assert fit_temperature(labels, probabilities, FINDINGS) == pytest.approx(expected, rel=1e-4)
        assert fit_temperature(labels[1000:], probabilities[1000:], FINDINGS) == 1.0

    def test_certain_probabilities_are_no_obstacle(self) -> None:
        probabilities = np.array([[0.0], [1.0], [1.0], [0.0]])
        temperature = fit_temperature(np.array([0, 1, 0, 1]), probabilities, TWO)
        assert np.isfinite(scaled(probabilities, temperature, TWO)).all()
        np.testing.assert_allclose(scaled(probabilities, temperature, TWO), 0.5, atol=0.05)


def test_a_run_calibrates_as_its_config_says(config: RunConfig) -> None:
    labels, probabilities = overconfident()
    after = calibrated(probabilities, config)
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    np.testing.assert_allclose(after, expit(np.log(p / (1 - p)) / 2.5), rtol=1e-5)
    np.testing.assert_array_equal(calibrated(probabilities, replace(config, calibration=None)), probabilities)
    patients = np.array([f"{number // 2}" for number in range(4000)], "S")
    found = calibration_figures(labels, probabilities, config, patients)
    assert found["temperature"] == 2.5
    assert found["after"]["ece"] < 0.03 < found["before"]["ece"]
    assert found["after"]["brier"] == pytest.approx(sk.brier_score_loss(labels, after[:, 0]))
    assert found["before"]["brier"] == pytest.approx(sk.brier_score_loss(labels, probabilities[:, 0]))


def test_several_classes_are_judged_by_the_most_probable_one(config: RunConfig) -> None:
    labels, probabilities = np.array([0, 1, 2, 2]), np.array([[0.7, 0.2, 0.1]] * 2 + [[0.1, 0.1, 0.8]] * 2)
    several = replace(config, classes=tuple("ABC"), calibration={"temperature": 1.0})
    found = calibration_figures(labels, probabilities, several)
    assert found["before"]["brier"] == pytest.approx(found["after"]["brier"])
    assert found["before"]["ece"] == pytest.approx(abs(0.5 - 0.7) / 2 + abs(1 - 0.8) / 2)
    # Brier 1950: the sum over the classes.
    assert found["before"]["brier"] == pytest.approx(np.mean([0.14, 0.49 + 0.64 + 0.01, 0.06, 0.06]))


def test_findings_are_pooled(config: RunConfig) -> None:
    labels, probabilities = np.array([[1, 0], [UNCERTAIN, 1]]), np.array([[0.8, 0.3], [0.5, 0.6]])
    several = replace(config, classes=("A", "B"), label_kind=MULTI_HOT)
    found = calibration_figures(labels, probabilities, several)["before"]
    assert sum(entry["count"] for entry in found["bins"]) == 3
    assert found["brier"] == pytest.approx((0.2**2 + 0.3**2 + 0.4**2) / 3)
