"""The paper's table beside ours: from training to the report, resumed, and from figures that were written by hand."""

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import run_command
from tests.conftest import ROOT
from tests.training.conftest import DataSet
from training import reproduce
from training.comparing.comparison_plots import figure_svg_file, spread_of_recipes
from training.comparing.paper_table import PAPER, report
from training.comparing.spread import spread
from training.models.recipes import RECIPES
from training.runs.run_folder import read_history


def flags(dataset: DataSet, output: Path, *more: str) -> list[str]:
    words = ("--data", dataset.folder, "--output", output, "--epochs", "1", *more)
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def reproduced(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("reproduced") / "out"
    words = flags(dataset, output, "--seeds", "2", "--recipes", "model1", "model2")
    assert run_command(reproduce.main, words) == 0
    return output


def row_of(text: str, *cells: str) -> list[str]:
    """The cells of the one row of a table that begins with `cells`."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    (found,) = (row for row in rows if row[: len(cells)] == list(cells))
    return found


def test_the_report_is_of_the_runs(reproduced: Path) -> None:
    text = (reproduced / "report.md").read_text()
    assert "Data set toy 1.0.0, split test: 30 images of 15 patients" in text
    assert "Seeds of each recipe: 0, 1;" in text
    assert "the more frequent class has an accuracy of 0.500" in text
    assert "validation figures" not in text
    for name in ("model1", "model2"):
        runs = [json.loads((reproduced / name / f"seed-{seed}/metrics.json").read_text()) for seed in (0, 1)]
        half = [run["at_threshold_0.5"]["accuracy"] for run in runs]
        table = text[text.index("## At a threshold of 0.5") : text.index("## At the operating point")]
        assert row_of(table, name, "the paper")[2] == "about 0.75"
        mean, sd = statistics.mean(half), statistics.stdev(half)
        assert row_of(table, f"{name}, 1 epoch", "mean (sd)")[2] == f"{mean:.3f} ({sd:.3f})"
        for seed, run in enumerate(runs):
            row = row_of(text, name, str(seed))
            assert row[2:4] == [f"{run['auroc']:.3f}", f"{run['loss']:.3f}"]
            assert row[7] == f"{run['accuracy']:.3f}"
    assert b"<svg" in (reproduced / "report.svg").read_bytes()


def test_the_same_command_goes_on(dataset: DataSet, reproduced: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (reproduced / "model1/seed-0").rglob("*")}
    text = (reproduced / "report.md").read_text()
    (reproduced / "report.md").unlink()
    (reproduced / "model2/seed-1/report.html").unlink()
    words = flags(dataset, reproduced, "--seeds", "2", "--recipes", "model1", "model2")
    assert run_command(reproduce.main, words) == 0
    assert {path: path.stat().st_mtime_ns for path in (reproduced / "model1/seed-0").rglob("*")} == before
    assert (reproduced / "report.md").read_text() == text


def test_a_signal_stops_it_and_the_same_command_goes_on(dataset: DataSet, tmp_path: Path) -> None:
    words = flags(dataset, tmp_path / "out", "--seeds", "1", "--recipes", "model1", "--epochs")
    command = [sys.executable, "-m", "training.reproduce", *words]
    with subprocess.Popen([*command, "9999"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out/model1/seed-0/history.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 143, said
    assert said.decode().splitlines()[-1] == "stopped; give the same command to continue"
    done = len(read_history(f"{tmp_path}/out/model1/seed-0"))
    assert run_command(reproduce.main, [*words, str(done + 1)]) == 0  # less than before, to end soon
    assert len(read_history(f"{tmp_path}/out/model1/seed-0")) == done + 1
    assert (tmp_path / "out/report.md").exists()


def test_without_test_images_the_report_is_of_validation_and_says_so(
    make_dataset: Callable[..., DataSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = make_dataset(examples={"train": 16, "validation": 12, "test": 0})
    words = flags(small, tmp_path / "out", "--seeds", "1", "--recipes", "model1")
    assert run_command(reproduce.main, words) == 0
    assert "has no test images; the report is of split validation" in capsys.readouterr().err
    assert "**These are validation figures" in (tmp_path / "out/report.md").read_text()


def summary(recipe: str, **half: float) -> dict[str, Any]:
    figures = {"accuracy": 0.5, "sensitivity": 0.5, "specificity": 0.5, "auroc": 0.9, "auprc": 0.9, "loss": 0.4}
    return {
        "recipe": recipe,
        "epochs": 10,
        "data": {"name": "kermany", "version": "1.0.0", "revision": 1},
        "split": "test",
        "examples": 618,
        "patients": 400,
        "majority_class_accuracy": 0.63,
        "seeds": [0],
        "figures": {name: spread([value]) for name, value in figures.items()},
        "at_threshold_0.5": {
            name: spread([half.get(name, 0.8)]) for name in ("accuracy", "sensitivity", "specificity")
        },
    }


def test_the_papers_figures() -> None:
    text = report([summary("model3", accuracy=0.8164), summary("mine")], "report.svg")
    assert row_of(text, "model3", "the paper")[2:] == ["0.889", "0.964", "0.765", "0.325"]
    half = text[: text.index("## At the operating point")]
    assert row_of(half, "model3, 10 epochs", "mean (sd)")[2:] == ["0.816", "0.800", "0.800", "0.400"]
    assert "| mine | the paper |" not in text
    assert "(report.svg)" in text


def test_the_picture_shows_every_seed_and_the_papers_figures() -> None:
    found = [summary("model3", accuracy=0.8164), summary("mine")]
    figure = spread_of_recipes(found, PAPER)
    (axes,) = figure.axes
    drawn = np.concatenate([np.asarray(line.get_ydata())[:1] for line in axes.lines])
    assert sorted(drawn.tolist()) == pytest.approx(sorted([0.8164, 0.5, 0.8894, 0.8, 0.5]))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["model3", "mine"]
    assert figure_svg_file(figure) == figure_svg_file(spread_of_recipes(found, PAPER))


def test_the_default_is_the_papers_models_and_best() -> None:
    config = reproduce.parse(["--data", "records", "--output", "out"])
    assert [recipe.name for recipe in config.recipes] == ["model1", "model2", "model3", "best"]
    assert {run.recipe.epochs for run in config.runs} == {RECIPES[name].epochs for name in reproduce.DEFAULT}
    assert all(run.resume and run.seeds == 5 for run in config.runs)


def test_errors(
    make_dataset: Callable[..., DataSet], dataset: DataSet, tmp_path: Path, fails: Callable[..., str]
) -> None:
    three = make_dataset(examples={"train": 6, "validation": 6}, classes=("A", "B", "C"), label=lambda index: index % 3)
    cases = (
        (three, (), "the paper's set has two classes"),
        (dataset, ("--recipes", "model1", "model1"), "model1 is given twice"),
        (dataset, ("--recipes", "model9"), "unknown recipe 'model9'"),
        (dataset, ("--seeds", "0"), "--seeds 0"),
        (dataset, ("--output", "gs://bucket/out"), "must be a local folder"),
    )
    for data, words, expected in cases:
        assert expected in fails(2, reproduce.main, *flags(data, tmp_path / "out", *words))
    assert not (tmp_path / "out").exists()
