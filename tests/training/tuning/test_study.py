"""The command: trials, pruning, resuming, several processes, and the recipe that comes out."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from schemas.errors import JobFailed, run_command
from tests.training.conftest import DataSet
from training import tune
from training.models.recipes import recipe
from training.runs.run_folder import load_run, write_history
from training.shifts.corruptions import CORRUPTIONS, corrupt
from training.tuning.processes import run_in_processes

optuna = pytest.importorskip("optuna")

BRIEF = """
from dataclasses import replace
from training.models.recipes import RECIPES
RECIPE = replace(RECIPES["model1"], name="brief", epochs=1)
"""
BROKEN = """
from keras import layers
from training.models.recipes import Recipe

def body(images, dtype):
    return layers.GlobalAveragePooling2D(dtype=dtype)(images) * float("nan")

RECIPE = Recipe(name="broken", model="broken", epochs=1, body=body)
"""


@pytest.fixture
def flags(dataset: DataSet, tmp_path: Path) -> list[str]:
    (tmp_path / "brief.py").write_text(BRIEF)
    output = tmp_path / "out"
    return ["--data", str(dataset.folder), "--recipe", str(tmp_path / "brief.py"), "--output", str(output)]


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_and_its_recipe(
    dataset: DataSet, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Callable[..., str]
) -> None:
    output = tmp_path / "out"
    assert run_command(tune.main, [*flags, "--trials", "2"]) == 0
    first, second = rows(output)
    assert (first["learning_rate"], first["batch_size"], first["balanced"]) == ("0.001", "32", "False")
    found = recipe(str(output / "recipe.py"))
    best = max((first, second), key=lambda row: float(row["score"]))
    assert (found.name, found.epochs, found.batch_size) == ("brief_tuned", 1, int(best["batch_size"]))
    assert found.learning_rate == float(best["learning_rate"])

    model, _ = load_run(str(output / "trials" / "0000"), recipe(str(tmp_path / "brief.py")))
    examples = dataset.examples["validation"]
    images, labels = np.stack([each.image for each in examples]), [each.label for each in examples]

    def auroc(shown: np.ndarray) -> float:
        return float(roc_auc_score(labels, np.asarray(model(shown))[:, 0]))

    corrupted = np.mean([min(auroc(corrupt(images, name, severity)) for severity in (3, 5)) for name in CORRUPTIONS])
    assert float(first["validation_auroc"]) == pytest.approx(auroc(images), abs=2e-3)
    assert float(first["corrupted_auroc"]) == pytest.approx(corrupted, abs=2e-3)
    assert float(first["score"]) == pytest.approx((auroc(images) + corrupted) / 2, abs=2e-3)
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == (
        f"recipe: {output / 'recipe.py'}; next: python -m training.train --data {dataset.folder} "
        f"--recipe {output / 'recipe.py'} --output RUN"
    )

    assert "already holds a search; choose another, or give --resume" in fails(2, tune.main, *flags, "--trials", 3)
    other = [*flags[:2], "--recipe", "model1", *flags[4:], "--trials", 3, "--resume"]
    assert "has a different recipe than this command" in fails(2, tune.main, *other)


def test_resuming_counts_what_is_finished_and_drops_what_was_cut_off(flags: list[str], tmp_path: Path) -> None:
    from training.tuning.study import _study

    config = tune.parse([*flags, "--trials", "1"])
    (tmp_path / "out").mkdir()
    cut_off = _study(config)
    cut_off.ask()
    assert run_command(tune.main, [*flags, "--trials", "1", "--resume"]) == 0
    assert [row["trial"] for row in rows(tmp_path / "out")] == ["1"]
    before = (tmp_path / "out" / "recipe.py").read_text()
    assert run_command(tune.main, [*flags, "--trials", "1", "--resume"]) == 0
    assert (tmp_path / "out" / "recipe.py").read_text() == before
    assert [trial.state.name for trial in cut_off.trials] == ["FAIL", "COMPLETE"]


def test_several_processes(flags: list[str], tmp_path: Path) -> None:
    assert run_command(tune.main, [*flags, "--trials", "2", "--jobs", "2"]) == 0
    assert sorted(row["state"] for row in rows(tmp_path / "out")) == ["complete", "complete"]
    assert recipe(str(tmp_path / "out" / "recipe.py")).name == "brief_tuned"


def test_a_process_that_fails_ends_the_search(
    flags: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tune.parse([*flags, "--trials", "2", "--jobs", "2"])
    (tmp_path / "brief.py").write_text(BRIEF + "# another")
    with pytest.raises(JobFailed, match="a process of --jobs ended with exit code 2; start again with --resume"):
        run_in_processes(config, [1, 1])
    assert f"error: --recipe {tmp_path / 'brief.py'} has changed since the search began" in capfd.readouterr().err


def test_an_epoch_below_the_median_ends_a_trial(tmp_path: Path) -> None:
    from training.tuning.trial import _reporting

    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(2, 1))
    for value in (0.8, 0.9):
        trial = study.ask()
        for epoch in (0, 1):
            trial.report(value, epoch)
        study.tell(trial, value)
    trial = study.ask()
    report = _reporting(trial, str(tmp_path), None)
    write_history(str(tmp_path), [{"epoch": 1, "val_auc": 0.5}])
    report()
    report()  # of the same epoch
    write_history(str(tmp_path), [{"epoch": 1, "val_auc": 0.5}, {"epoch": 2, "val_auc": 0.6}])
    with pytest.raises(optuna.TrialPruned, match=r"after epoch 2, with a validation AUC of 0\.6"):
        report()
    orphan = _reporting(study.ask(), str(tmp_path), -1)
    with pytest.raises(SystemExit):
        orphan()


def test_a_loss_that_is_no_number_prunes(flags: list[str], tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "brief.py").write_text(BROKEN)
    message = fails(1, tune.main, *flags, "--trials", 1)
    assert "no trial was finished; the last one was pruned: the loss is nan in epoch 1" in message
    assert [row["state"] for row in rows(tmp_path / "out")] == ["pruned"]


def test_wrong_flags(
    dataset: DataSet, flags: list[str], make_dataset: Callable[..., DataSet], fails: Callable[..., str]
) -> None:
    assert "--trials 0: must be 1 or more" in fails(2, tune.main, *flags, "--trials", 0)
    assert "--jobs 0: must be 1 or more" in fails(2, tune.main, *flags, "--trials", 1, "--jobs", 0)
    assert "--seed -1: must be from 0" in fails(2, tune.main, *flags, "--trials", 1, "--seed", -1)
    assert "must be a local folder" in fails(2, tune.main, *flags[:4], "--output", "gs://a/b", "--trials", 1)
    several = make_dataset(examples={"train": 9, "validation": 9}, size=16, classes=("A", "B", "C"))
    assert "the search is for two classes" in fails(2, tune.main, "--data", several.folder, *flags[2:], "--trials", 1)
