"""Several seeds in one command: their runs are ordinary ones, and the summary is of their figures."""

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import run_command
from tests.training.conftest import DataSet
from training import train
from training.comparing.spread import spread, spread_of
from training.runs.run_folder import load_run, read_config, read_history


def flags(dataset: DataSet, output: Path, *more: str) -> list[str]:
    words = ("--data", dataset.folder, "--output", output, "--recipe", "model1", "--epochs", "1", *more)
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def seeds(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 4 and 5."""
    output = tmp_path_factory.mktemp("seeds") / "model1"
    assert run_command(train.main, flags(dataset, output, "--seeds", "2", "--seed", "4")) == 0
    return output


def test_the_summary_is_of_the_runs(seeds: Path) -> None:
    content = json.loads((seeds / "seeds.json").read_text())
    assert content["seeds"] == [4, 5]
    assert content["runs"] == ["seed-4", "seed-5"]
    assert content["split"] == "test"
    assert content["examples"] == 30
    metrics = [json.loads((seeds / run / "metrics.json").read_text()) for run in content["runs"]]
    assert {each["split"] for each in metrics} == {"test"}
    assert set(content["figures"]) == {"accuracy", "sensitivity", "specificity", "auroc", "auprc", "loss"}
    for name, figure in content["figures"].items():
        values = [each[name] for each in metrics]
        assert figure["values"] == values
        assert figure["mean"] == pytest.approx(statistics.mean(values))
        assert figure["sd"] == pytest.approx(statistics.stdev(values))
        assert [figure["min"], figure["max"]] == sorted(values)
    half = content["at_threshold_0.5"]["accuracy"]
    assert half["values"] == [each["at_threshold_0.5"]["accuracy"] for each in metrics]


def test_each_run_is_the_one_that_its_seed_alone_gives(dataset: DataSet, seeds: Path, tmp_path: Path) -> None:
    assert read_config(str(seeds / "seed-5")).seed == 5
    assert run_command(train.main, flags(dataset, tmp_path / "run", "--seed", "5")) == 0
    assert read_history(str(seeds / "seed-5")) == [
        pytest.approx(row, rel=1e-4) for row in read_history(f"{tmp_path}/run")
    ]
    (one, _), (other, _) = load_run(str(seeds / "seed-5")), load_run(str(tmp_path / "run"))
    for weight, again in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(again, weight, rtol=1e-3, atol=1e-5)


def test_resume_skips_what_is_finished_and_adds_seeds(
    dataset: DataSet, seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(seeds, tmp_path / "model1")
    kept = output / "seed-4"
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    (output / "seed-5/metrics.json").unlink()  # stopped before its evaluation
    weights = (output / "seed-5/model.weights.h5").stat().st_mtime_ns
    words = flags(dataset, output, "--seeds", "3", "--seed", "4", "--resume")
    assert run_command(train.main, words) == 0
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before
    assert (output / "seed-5/model.weights.h5").stat().st_mtime_ns == weights
    assert json.loads((output / "seeds.json").read_text())["seeds"] == [4, 5, 6]
    printed = capsys.readouterr().out
    assert "model1 on split test, 3 seeds" in printed
    assert "accuracy at 0.5" in printed
    first = json.loads((seeds / "seeds.json").read_text())["figures"]["loss"]["values"]
    assert json.loads((output / "seeds.json").read_text())["figures"]["loss"]["values"][:2] == first


def test_another_split_or_operating_point_is_evaluated_again(dataset: DataSet, seeds: Path, tmp_path: Path) -> None:
    output = shutil.copytree(seeds, tmp_path / "model1")
    words = flags(dataset, output, "--seeds", "1", "--seed", "4", "--resume")
    assert run_command(train.main, [*words, "--split", "validation", "--operating_point", "fixed=0.25"]) == 0
    content = json.loads((output / "seeds.json").read_text())
    assert content["split"] == "validation"
    assert content["figures"]["accuracy"]["sd"] is None
    metrics = json.loads((output / "seed-4/metrics.json").read_text())
    assert metrics["threshold"]["value"] == 0.25
    assert metrics["examples"] == 40
    assert read_history(str(output / "seed-4")) == read_history(str(seeds / "seed-4"))


def test_without_a_test_split_validation_is_reported(make_dataset: Callable[..., DataSet], tmp_path: Path) -> None:
    small = make_dataset(examples={"train": 16, "validation": 12, "test": 0})
    assert run_command(train.main, flags(small, tmp_path / "out", "--seeds", "1")) == 0
    assert json.loads((tmp_path / "out/seeds.json").read_text())["split"] == "validation"


def test_errors_come_before_training(dataset: DataSet, seeds: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "seed-5 already holds a run" in fails(2, train.main, *flags(dataset, seeds, "--seeds", "4", "--seed", "5"))
    assert not (seeds / "seed-6").exists()
    new = tmp_path / "new"
    assert "no split 'tset'" in fails(2, train.main, *flags(dataset, new, "--seeds", "2", "--split", "tset"))
    assert "--seeds 0" in fails(2, train.main, *flags(dataset, new, "--seeds", "0"))
    assert "is for --seeds only" in fails(2, train.main, *flags(dataset, new, "--split", "test"))
    assert "must be a local folder" in fails(
        2, train.main, *flags(dataset, new, "--seeds", "2", "--output", "gs://b/c")
    )
    assert not new.exists()
    (tmp_path / "file").write_text("")
    assert "cannot write to --output" in fails(2, train.main, *flags(dataset, tmp_path / "file", "--seeds", "2"))
    copy = shutil.copytree(seeds, tmp_path / "copy")
    line = fails(2, train.main, *flags(dataset, copy, "--seeds", "1", "--seed", "4", "--resume", "--batch_size", "8"))
    assert "has a different recipe" in line


def test_a_spread_leaves_out_what_is_undefined() -> None:
    assert spread([None, 1.0, 3.0]) == {
        "mean": 2.0,
        "sd": pytest.approx(2**0.5),
        "min": 1.0,
        "max": 3.0,
        "values": [None, 1.0, 3.0],
    }
    assert spread([None])["mean"] is None


def test_the_figures_of_several_classes_are_macro_averages() -> None:
    run = {"per_class": {}, "loss": 0.5, "macro": {"auroc": 0.75, "auprc": 0.5}, "accuracy": 0.25}
    assert {name: figure["mean"] for name, figure in spread_of([run])["figures"].items()} == {
        "accuracy": 0.25,
        "macro_auroc": 0.75,
        "macro_auprc": 0.5,
        "loss": 0.5,
    }
    findings = {"per_class": {}, "loss": 0.5, "macro": None}
    assert spread_of([findings])["figures"]["macro_auroc"]["mean"] is None
