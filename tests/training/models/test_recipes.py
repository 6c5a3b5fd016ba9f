from dataclasses import replace
from typing import Any

import pytest

from schemas.errors import UsageError
from training import train
from training.models import networks as models
from training.models.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_each_names_a_model_and_is_what_its_flag_means(name: str) -> None:
    entry = recipe(name)
    assert entry.model in models.MODELS
    assert train.parse(["--data", "data", "--recipe", name, "--output", "run"]).recipe == entry


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'model9'; known recipes: model1, model2, model3"):
        recipe("model9")


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": 2.0}])
def test_bad_values_are_quoted(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(change.values())))):
        replace(recipe("model1"), **change)
