from dataclasses import replace

import pytest

from schemas.errors import UsageError
from training import models, train
from training.recipes import RECIPES, recipe


def test_the_papers_epochs():
    assert {name: entry.epochs for name, entry in RECIPES.items()} == {"model1": 5, "model2": 10, "model3": 10}


@pytest.mark.parametrize("name", RECIPES)
def test_each_names_a_model_and_a_command_that_parses(name):
    entry = recipe(name)
    assert entry.model in models.MODELS
    words = entry.command.split()
    assert words[:3] == ["python", "-m", "training.train"]
    assert train.parse(words[3:]).recipe == entry
    assert "paper" in entry.expect


def test_unknown_recipe_lists_the_known():
    with pytest.raises(UsageError, match="unknown recipe 'model9'; known recipes: model1, model2, model3"):
        recipe("model9")


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": 2.0}])
def test_bad_values_are_quoted(change):
    with pytest.raises(UsageError, match=str(next(iter(change.values())))):
        replace(recipe("model1"), **change)
