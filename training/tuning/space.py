"""Which settings of a recipe are searched, and where."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from training.models.recipes import Recipe

Suggest = Callable[[Any, str, Any], Any]


def _learning_rate(trial: Any, name: str, given: float) -> float:
    """From a tenth to ten times that of the recipe."""
    return float(trial.suggest_float(name, given / 10, min(given * 10, 0.5), log=True))


def _batch_size(trial: Any, name: str, given: int) -> int:
    """Half, the same, or two or four times that of the recipe."""
    return int(trial.suggest_categorical(name, sorted({max(1, given // 2), given, given * 2, given * 4})))


def _switch(trial: Any, name: str, _given: bool) -> bool:
    return bool(trial.suggest_categorical(name, (False, True)))


def _between(low: float, high: float) -> Suggest:
    """A number from `low` to `high`, and at least up to that of the recipe."""

    def suggest(trial: Any, name: str, given: float) -> float:
        return float(trial.suggest_float(name, min(low, given), max(high, given)))

    return suggest


# By field of the Recipe. Those that this release's Recipe lacks are left out.
SPACE: Mapping[str, Suggest] = {
    "learning_rate": _learning_rate,
    "batch_size": _batch_size,
    "augment": _switch,
    "balanced": _switch,
    "width": _between(0.5, 1.5),
    "dropout": _between(0.0, 0.6),
    "augment_strength": _between(0.25, 2.0),
}


def searched(recipe: Recipe) -> dict[str, Any]:
    """The fields that are searched, with the recipe's own values. A field that is None is not used by the recipe."""
    own = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    return {name: own[name] for name in SPACE if own.get(name) is not None}


def suggest(trial: Any, recipe: Recipe) -> dict[str, Any]:
    """The values of an Optuna trial for each searched field, rounded to four digits so that they can be read."""
    found = {name: SPACE[name](trial, name, given) for name, given in searched(recipe).items()}
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in found.items()}


def _rounded(value: float) -> float:
    return round(value, 3 - math.floor(math.log10(abs(value)))) if value else 0.0
