"""Thresholds against trying every one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import UsageError
from tests.training.metrics.test_two_classes import LABELS, PROBABILITIES, many
from training.decisions.operating_points import DEFAULT, operating_point


def rates(labels: NDArray[np.int64], probabilities: NDArray[np.float64], threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity."""
    called = probabilities >= threshold
    return float(called[labels == 1].mean()), float((~called[labels == 0]).mean())


def chosen(text: str, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    found = operating_point(text).threshold(labels, probabilities)
    assert found is not None
    return found


EVERY = np.arange(0, 1.005, 0.005)


class TestYouden:
    def test_half_way_below_the_best_probability(self) -> None:
        # At 0.55: 5 of 6 and 3 of 4; no other cut has a higher sum.
        assert chosen("youden", LABELS, PROBABILITIES) == pytest.approx((0.55 + 0.45) / 2)

    def test_no_threshold_does_better(self) -> None:
        labels, probabilities = many()
        best = sum(rates(labels, probabilities, chosen("youden", labels, probabilities)))
        assert max(sum(rates(labels, probabilities, threshold)) for threshold in EVERY) <= best + 1e-12

    def test_a_model_that_is_always_wrong_calls_nothing_positive(self) -> None:
        assert chosen("youden", np.array([1, 1, 0, 0]), np.array([0.1, 0.2, 0.8, 0.9])) == 1.0


@pytest.mark.parametrize("least", [0.5, 0.9, 0.95, 1.0])
def test_a_target_is_reached_at_the_least_cost_to_the_other(least: float) -> None:
    labels, probabilities = many()
    for kind, target, other in (("sensitivity", 0, 1), ("specificity", 1, 0)):
        found = rates(labels, probabilities, chosen(f"{kind}={least}", labels, probabilities))
        assert found[target] >= least
        every = [rates(labels, probabilities, threshold) for threshold in EVERY]
        assert found[other] == max(each[other] for each in every if each[target] >= least)


def test_a_target_that_is_met_exactly() -> None:
    labels = np.array([0] * 20 + [1] * 20)
    probabilities = np.linspace(0, 1, 40)[np.r_[0:19, 30, 19:30, 31:40]]
    assert rates(labels, probabilities, chosen("specificity=0.95", labels, probabilities))[1] == 0.95


@pytest.mark.parametrize("costs", ["1:1", "10:1", "1:10", "0.5:3"])
def test_no_threshold_costs_less(costs: str) -> None:
    labels, probabilities = many()
    missed, alarm = map(float, costs.split(":"))

    def cost(threshold: float) -> float:
        called = probabilities >= threshold
        return missed * float((~called & (labels == 1)).sum()) + alarm * float((called & (labels == 0)).sum())

    assert cost(chosen(f"cost={costs}", labels, probabilities)) == min(map(cost, EVERY))


def test_fixed_needs_no_examples() -> None:
    assert operating_point("fixed=0.5").threshold(np.zeros(0, int), np.zeros(0)) == 0.5


@pytest.mark.parametrize("text", ["youden", "shifted", "sensitivity=0.9", "specificity=0.9", "cost=2:1"])
def test_one_class_is_not_enough(text: str) -> None:
    assert operating_point(text).threshold(np.ones(3, int), np.array([0.1, 0.2, 0.3])) is None


@pytest.mark.parametrize(
    "text",
    (
        "roc youden=1 sensitivity sensitivity=0 sensitivity=1.1 specificity=x cost=1 cost=1:0 cost=1:2:3 fixed=-1 fixed=nan "
        "cost=inf:1 sensitivity=0.9:0.9"
    ).split(),
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--operating_point .*: must be youden\|shifted\|sensitivity=S"):
        operating_point(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("youden", "maximises Youden's J (sensitivity + specificity - 1) on split validation, 9 examples"),
        (
            DEFAULT,
            "maximises Youden's J (sensitivity + specificity - 1) on strongly corrupted copies of split validation, "
            "9 examples",
        ),
        ("sensitivity=0.95", "is the highest with a sensitivity of at least 0.95 on split validation, 9 examples"),
        ("specificity=.9", "is the lowest with a specificity of at least 0.9 on split validation, 9 examples"),
        (
            "cost=5:1",
            "minimises the cost of errors (false negative 5, false positive 1) on split validation, 9 examples",
        ),
        ("fixed=0.5", "was fixed beforehand"),
    ],
)
def test_the_source_is_a_sentence(text: str, said: str) -> None:
    assert operating_point(text).source("validation", 9) == said
