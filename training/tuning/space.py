"""Which settings of a recipe are searched, and where."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from training.models.networks import MODELS
from training.models.recipes import Recipe

NETWORK = "network"  # the field of the Recipe with the options of its network

# (the Optuna trial, the name, the recipe's own value) -> a value
Suggest = Callable[[Any, str, Any], Any]


def _tenfold(trial: Any, name: str, given: float) -> float:
    """From a tenth to ten times that of the recipe."""
    return float(trial.suggest_float(name, given / 10, min(given * 10, 0.5), log=True))


def _powers_of_two(trial: Any, name: str, given: int) -> int:
    """Half, the same, or two or four times that of the recipe."""
    return int(trial.suggest_categorical(name, sorted({max(1, given // 2), given, given * 2, given * 4})))


def _switch(trial: Any, name: str, _given: bool) -> bool:
    return bool(trial.suggest_categorical(name, (False, True)))


def _between(low: float, high: float) -> Suggest:
    """A number from `low` to `high`, or as far as that of the recipe."""

    def suggest(trial: Any, name: str, given: float) -> float:
        return float(trial.suggest_float(name, min(low, given), max(high, given)))

    return suggest


# Fields of the Recipe, and options of its network.
SPACE: Mapping[str, Suggest] = {
    "learning_rate": _tenfold,
    "batch_size": _powers_of_two,
    "augment": _switch,
    "augment_strength": _between(0.0, 2.0),
    "balanced": _switch,
    "label_smoothing": _between(0.0, 0.2),
    "weight_decay": _tenfold,
    "width": _between(0.5, 1.4),
    "dropout": _between(0.0, 0.6),
}
_ONLY_IF_USED = ("label_smoothing", "weight_decay")  # searched if the recipe's own value is not 0


def searched(recipe: Recipe) -> dict[str, Any]:
    """The settings that are searched, with the recipe's own values: those in SPACE that the recipe has."""
    own = {each.name: getattr(recipe, each.name) for each in fields(recipe)}
    if "augment_strength" in own:
        del own["augment"]  # the same changes, but smaller
    own |= _options(recipe)
    return {name: own[name] for name in SPACE if name in own and (own[name] or name not in _ONLY_IF_USED)}


def suggest(trial: Any, recipe: Recipe) -> dict[str, Any]:
    """The values of an Optuna trial for what is searched, rounded to four digits so that they can be read."""
    found = {name: SPACE[name](trial, name, given) for name, given in searched(recipe).items()}
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in found.items()}


def changes(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the recipe that `values`, by name, change."""
    options = {name: value for name, value in values.items() if name in _options(recipe)}
    changed = {name: value for name, value in values.items() if name not in options}
    return changed | ({NETWORK: {**getattr(recipe, NETWORK), **options}} if options else {})


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with these values."""
    return replace(recipe, **changes(recipe, values))


def _options(recipe: Recipe) -> dict[str, Any]:
    """The options of the recipe's network that are in SPACE, with the recipe's own values."""
    given = getattr(recipe, NETWORK, None)
    body = recipe.body or MODELS.get(recipe.model)
    if given is None or body is None:
        return {}
    known = inspect.signature(body).parameters.values()
    return {each.name: given.get(each.name, each.default) for each in known if each.name in SPACE}


def _rounded(value: float) -> float:
    return round(value, 3 - math.floor(math.log10(abs(value)))) if value else 0.0
