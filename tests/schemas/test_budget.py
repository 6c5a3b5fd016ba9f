"""What threads hold together stays within the budget, except for one that alone is above it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.budget import Budget


def test_threads_together_stay_within_it_or_are_alone() -> None:
    budget, lock, holding, seen = Budget(10), threading.Lock(), [], []

    def work(units: int) -> None:
        with budget.take(units):
            with lock:
                holding.append(units)
                seen.append(tuple(holding))
            with lock:
                holding.remove(units)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 12, 1, 9, 10, 25, 2] * 50))
    assert len(seen) == 400
    assert all(sum(units) <= 10 or len(units) == 1 for units in seen)


def test_what_an_error_held_is_given_back() -> None:
    budget = Budget(10)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), budget.take(10):
            raise ValueError("x")
    with budget.take(10):
        pass
