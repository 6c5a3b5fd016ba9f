"""What is searched, and the file that holds what was found."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from training.models.recipes import MODEL3, Recipe, recipe
from training.tuning.recipe_file import recipe_text
from training.tuning.space import SPACE, changes, searched, suggest, with_values

optuna = pytest.importorskip("optuna")

OWN = """
from keras import layers
from training.models.recipes import Recipe

def body(images, dtype):
    return layers.Flatten(dtype=dtype)(images)

RECIPE = Recipe(name="mine", model="flat", epochs=2, body=body)
"""


def test_the_values_of_the_recipe_can_be_suggested() -> None:
    own = searched(MODEL3)
    assert {name: own[name] for name in ("learning_rate", "batch_size", "balanced")} == {
        "learning_rate": 1e-3,
        "batch_size": 16,
        "balanced": False,
    }
    assert list(own) == [name for name in SPACE if name in own]
    assert suggest(optuna.trial.FixedTrial(own), MODEL3) == own


@dataclass(frozen=True)
class WithOptions(Recipe):
    """A recipe whose network has options."""

    augment_strength: float = 1.0
    label_smoothing: float = 0.1
    weight_decay: float = 0.0
    network: Mapping[str, float] = field(default_factory=dict)


def network(images: Any, dtype: str, width: float = 1.0, depth: int = 3, dropout: float = 0.3) -> Any:
    raise NotImplementedError


def test_options_of_the_network() -> None:
    given = WithOptions(name="own", model="own", epochs=3, body=network, network={"depth": 5, "dropout": 0.1})
    own = searched(given)
    assert own == {
        "learning_rate": 1e-3,
        "batch_size": 32,
        "augment_strength": 1.0,
        "balanced": False,
        "label_smoothing": 0.1,
        "width": 1.0,
        "dropout": 0.1,
    }
    assert suggest(optuna.trial.FixedTrial(own), given) == own
    found = with_values(given, {"learning_rate": 0.002, "augment_strength": 0.5, "width": 0.7})
    assert found == replace(
        given, learning_rate=0.002, augment_strength=0.5, network={"depth": 5, "dropout": 0.1, "width": 0.7}
    )
    text = recipe_text(given, changes(given, {"balanced": True, "width": 0.7}), "The best.")
    assert "balanced=True, network={'depth': 5, 'dropout': 0.1, 'width': 0.7})" in text
    assert with_values(MODEL3, {"balanced": True}) == replace(MODEL3, balanced=True)


def test_values_are_within_their_bounds_and_short() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [suggest(study.ask(), MODEL3) for _ in range(40)]
    assert {values["batch_size"] for values in found} == {8, 16, 32, 64}
    assert {values["balanced"] for values in found} == {False, True}
    rates = [values["learning_rate"] for values in found]
    assert 1e-4 <= min(rates) < 3e-4
    assert 3e-3 < max(rates) <= 1e-2
    assert all(len(f"{rate:.3e}") >= len(f"{rate:g}") for rate in rates)
    for values in found:
        replace(MODEL3, **values)  # which checks them


def loaded(path: Path, text: str) -> Recipe:
    path.write_text(text)
    return recipe(str(path))


def test_a_recipe_file_is_a_recipe(tmp_path: Path) -> None:
    values: dict[str, Any] = {"learning_rate": 0.0004, "batch_size": 8}
    found = loaded(tmp_path / "recipe.py", recipe_text(MODEL3, values, "The best."))
    assert replace(found, sha256="") == replace(MODEL3, name="model3_tuned", **values)


def test_the_file_of_an_own_recipe_stands_alone(tmp_path: Path) -> None:
    own = loaded(tmp_path / "mine.py", OWN)
    text = recipe_text(own, {"batch_size": 8}, "The best.")
    (tmp_path / "mine.py").unlink()
    found = loaded(tmp_path / "recipe.py", text)
    assert (found.name, found.batch_size, found.epochs) == ("mine_tuned", 8, 2)
    assert found.body is not None
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_file_of_a_recipe_in_a_module_names_it(tmp_path: Path) -> None:
    own = recipe("training.models.recipes:MODEL1")
    found = loaded(tmp_path / "recipe.py", recipe_text(own, {"epochs": 7}, "The best."))
    assert (found.name, found.model, found.epochs) == ("model1_tuned", "model1", 7)
