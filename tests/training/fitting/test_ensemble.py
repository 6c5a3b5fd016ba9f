"""Ensembles: their probabilities are the means of those of their members, which are runs like any other."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import run_command
from tests.training.conftest import DataSet
from training import evaluate, explain, train
from training.runs.run_folder import load_run, read_config, read_history


def flags(dataset: DataSet, output: Path, *more: str) -> list[str]:
    words = ("--data", dataset.folder, "--output", output, "--recipe", "model1", "--epochs", "2", "--seed", "3", *more)
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def ensemble(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("ensemble") / "run"
    assert run_command(train.main, flags(dataset, output, "--ensemble", "2")) == 0
    return output


def test_the_probabilities_are_the_means_of_the_members(ensemble: Path) -> None:
    model, config = load_run(str(ensemble))
    members = [load_run(f"{ensemble}/members/{number}") for number in range(2)]
    assert config.recipe.ensemble == 2
    assert [run.recipe.ensemble for _, run in members] == [1, 1]
    assert len({run.seed for _, run in members} | {3}) == 3
    images = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 1), dtype=np.uint8)
    first, second = (each.predict(images, verbose=0) for each, _ in members)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(model.predict(images, verbose=0), (first + second) / 2, atol=1e-6)
    histories = [read_history(f"{ensemble}/members/{number}") for number in range(2)]
    kept = min(int(run.best["epoch"]) for _, run in members if run.best)
    assert [row["loss"] for row in read_history(str(ensemble))] == pytest.approx(
        [(one["loss"] + other["loss"]) / 2 for one, other in zip(*histories, strict=True)][:kept]
    )


def test_its_figures_are_its_own(dataset: DataSet, ensemble: Path, tmp_path: Path) -> None:
    words = ["--run", str(ensemble), "--data", str(dataset.folder), "--split", "validation", "--output", str(tmp_path)]
    assert run_command(evaluate.main, words) == 0
    metrics, best = json.loads((tmp_path / "metrics.json").read_text()), read_config(str(ensemble)).best
    assert best is not None
    assert best["val_loss"] == pytest.approx(metrics["loss"], abs=1e-4)
    assert best["val_accuracy"] == pytest.approx(metrics["at_threshold_0.5"]["accuracy"])


def test_it_continues(dataset: DataSet, ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--ensemble", "2", "--resume")) == 0
    capsys.readouterr()
    (output / "config.json").unlink()  # as if it had been stopped before the members were put together
    assert run_command(train.main, flags(dataset, output, "--ensemble", "2", "--resume")) == 0
    assert "epoch 1/2" not in capsys.readouterr().out
    (again, _), (first, _) = load_run(str(output)), load_run(str(ensemble))
    for weight, expected in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-5)
    assert run_command(train.main, flags(dataset, output, "--ensemble", "3", "--resume")) == 2
    assert "has a different recipe" in capsys.readouterr().err


def test_what_cannot_be_an_ensemble(dataset: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count in ("0", "101"):
        assert run_command(train.main, flags(dataset, tmp_path / "run", "--ensemble", count)) == 2
        assert f"ensemble {count}: must be from 1 to 100" in capsys.readouterr().err


def test_maps_that_look_into_one_network_are_of_a_member(
    ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(image)

    def explained(run: Path, method: str) -> int:
        output = str(tmp_path / f"{run.name}-{method}")
        return run_command(explain.main, ["--run", str(run), str(image), "--method", method, "--output", output])

    assert explained(ensemble, "gradcam") == 2
    assert f"is an ensemble; give one of its members as --run ({ensemble}/members/0, ...)" in capsys.readouterr().err
    assert explained(ensemble, "occlusion") == 0
    assert explained(ensemble / "members/0", "gradcam") == 0
