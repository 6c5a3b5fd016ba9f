"""Recipes: those of the project, and the user's own."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import UsageError, run_command
from tests.training.conftest import DataSet
from training import evaluate, train
from training.models import networks as models
from training.models.recipes import RECIPES, recipe
from training.runs.run_folder import read_config


@pytest.mark.parametrize("name", RECIPES)
def test_each_names_a_model_and_is_what_its_flag_means(name: str) -> None:
    entry = recipe(name)
    assert entry.model in models.MODELS
    assert train.parse(["--data", "data", "--recipe", name, "--output", "run"]).recipe == entry


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'model9'; known recipes: model1, model2, model3"):
        recipe("model9")


@pytest.mark.parametrize(
    "change",
    [
        *({"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": 2.0}, {"augment_strength": -1.0}),
        *({"label_smoothing": 1.5}, {"weight_decay": -0.5}, {"schedule": "steps"}, {"keep": "none"}),
    ],
)
def test_bad_values_are_quoted(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(change.values())))):
        replace(recipe("model1"), **change)


def test_best_keeps_its_last_epoch_and_cannot_go_on_after_its_schedule(
    dataset: DataSet, tmp_path: Path, fails: Callable[..., str]
) -> None:
    (tmp_path / "narrow.py").write_text(
        "from dataclasses import replace\n"
        "from training.models.networks import MODELS\n"
        "from training.models.recipes import BEST\n"
        "RECIPE = replace(BEST, epochs=2, network={'width': 0.25}, body=MODELS['best'])\n"
    )
    command = ["--data", dataset.folder, "--recipe", tmp_path / "narrow.py", "--output", tmp_path / "run"]
    assert run_command(train.main, [str(word) for word in command]) == 0
    config = read_config(str(tmp_path / "run"))
    assert config.best is not None
    assert config.best["epoch"] == 2
    assert config.recipe.network == {"width": 0.25}
    line = fails(2, train.main, *command, "--resume", "--epochs", "3")
    assert "its learning rate falls to zero by then; give the same --epochs" in line


def test_the_fields_that_earlier_releases_lack_are_written_where_they_are_used() -> None:
    assert set(recipe("model1").to_json()) == {
        *("name", "model", "epochs", "batch_size", "learning_rate", "augment", "balanced"),
    }
    assert recipe("best").to_json()["augment_strength"] == 1


ROOT = Path(__file__).parents[3]
# The example of the documentation.
(OWN,) = (
    code
    for code in re.findall("```python\n(.*?)```", (ROOT / "docs/train.md").read_text(), re.DOTALL)
    if "RECIPE" in code
)


def test_a_recipe_of_the_users_own_is_needed_again(
    dataset: DataSet, tmp_path: Path, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    run, own = tmp_path / "run", tmp_path / "own.py"
    command = ["--data", dataset.folder, "--output", run, "--recipe", own, "--epochs", "1"]
    assert run_command(train.main, [str(word) for word in command]) == 0
    assert f"--data {dataset.folder} --recipe {own}\n" in capsys.readouterr().out
    recorded = json.loads((run / "config.json").read_text())["recipe"]
    assert recorded["sha256"] == hashlib.sha256(OWN.encode()).hexdigest()
    assert recorded["source"] == str(own)
    line = fails(2, evaluate.main, "--run", run, "--data", dataset.folder)
    assert line.endswith("a run folder holds no code; give the same file as --recipe")
    assert run_command(evaluate.main, ["--run", str(run), "--data", str(dataset.folder), "--recipe", str(own)]) == 0
    own.write_text(OWN + "# changed\n")
    assert "has a different SHA-256" in fails(2, evaluate.main, "--run", run, "--data", dataset.folder, "--recipe", own)
    assert "different recipe" in fails(2, train.main, *command, "--resume")


def test_a_recipe_that_imports_keras_prints_no_log_lines(dataset: DataSet, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    command = ["--data", dataset.folder, "--recipe", tmp_path / "own.py", "--output", tmp_path, "--epochs", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "training.train", *map(str, command)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "error: epochs 0: must be at least 1\n")


def test_a_recipe_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_recipes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    found = recipe("my_recipes:RECIPE")
    assert (found.name, found.source) == ("mine", "my_recipes:RECIPE")
    assert found.sha256 == hashlib.sha256(OWN.encode()).hexdigest()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('mine')", "RuntimeError: mine"),
        ("", "AttributeError"),
        ("RECIPE = 1", "RECIPE is not a training.models.recipes.Recipe"),
        ("RECIPE = ", "SyntaxError"),
    ],
)
def test_code_that_gives_no_recipe(tmp_path: Path, code: str, says: str) -> None:
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(UsageError, match=says):
        recipe(str(tmp_path / "own.py"))
    with pytest.raises(UsageError, match=r"none.py cannot be loaded: FileNotFoundError"):
        recipe(str(tmp_path / "none.py"))
