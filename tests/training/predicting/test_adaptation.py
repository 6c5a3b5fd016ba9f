"""--adapt_prior, with the model of the small data sets: the shares of the classes, and the decision that follows."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import JobFailed, UsageError, run_command
from schemas.labels import MULTI_HOT
from tests.training.conftest import image
from training import predict
from training.predicting.adaptation import adapted, check_adaptable
from training.runs.run_folder import read_config

MOST = 0.9  # of the images of the other place have the first class


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images as those of `dataset`, where half have each class, but with other shares."""
    folder = tmp_path_factory.mktemp("place")
    for index in range(60):
        label = int(index >= MOST * 60)
        number = 7 * (1000 + index) + 1  # of the images that look as their label says
        Image.fromarray(image(number, label, 64)[:, :, 0]).save(folder / f"{index:02}.png")
    return folder


def test_probabilities_and_classes(run: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(predict.main, ["--run", str(run), "--json", "--adapt_prior", str(place), str(place)]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    config = read_config(str(run))
    assert config.adaptation is not None
    p = np.array([row["probability"] for row in found])
    corrected = np.array([row["corrected_probability"] for row in found])
    inside = np.array([not row["out_of_scope"] for row in found])
    # With Platt scaling, and the prior of the greatest likelihood on a grid, of which EM finds the maximum.
    slope, bias = config.adaptation["slope"], config.adaptation["bias"][1]
    odds = (p / (1 - p)) ** slope * np.exp(bias)
    grid = np.linspace(1e-6, 1 - 1e-6, 100_001)[:, None]
    share = float(grid[np.log(grid * odds[inside] + 1 - grid).sum(1).argmax(), 0])
    there = odds * share / (1 - share)
    np.testing.assert_allclose(corrected, there / (1 + there), atol=1e-3)
    (line,) = err.splitlines()
    assert line.startswith(
        f"prior of {place}, from {inside.sum()} images: NORMAL {1 - share:.1%}, PNEUMONIA {share:.1%}"
    )
    assert line.endswith("(in validation: NORMAL 50.0%, PNEUMONIA 50.0%)")
    assert share == pytest.approx(1 - MOST, abs=0.1)
    # Youden's threshold does not depend on the prior. What costs of errors have chosen does: it moves the other way.
    assert [row["class"] for row in found] == [config.classes[int(each >= config.thresholds[0])] for each in p]
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "config.json").write_text(replace(config, operating_point="cost=1:1").to_json())
    flags = ["--json", "--adapt_prior", str(place), str(place)]
    assert run_command(predict.main, ["--run", str(copy), *flags]) == 0
    moved = [json.loads(line)["class"] for line in capsys.readouterr().out.splitlines()]
    least = (config.thresholds[0] / (1 - config.thresholds[0])) ** slope * np.exp(bias)
    assert moved == [config.classes[int(each >= least)] for each in there]
    assert set(moved[: int(MOST * 60)]) == {"NORMAL"}
    assert moved.count("PNEUMONIA") < [row["class"] for row in found].count("PNEUMONIA")


def test_the_columns_of_a_csv(run: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--run", str(run), "--format", "csv", "--adapt_prior", str(place), str(place / "00.png")]
    assert run_command(predict.main, flags) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header == "path,probability,class,calibrated_probability,corrected_probability,out_of_scope,scope_score,run"
    assert len(line.split(",")) == 8


def test_few_images_and_images_that_cannot_be_used(
    run: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("00.png", "01.png", "59.png"):
        shutil.copy(place / name, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32))).save(tmp_path / "stripes.png")
    one = str(place / "00.png")
    assert run_command(predict.main, ["--run", str(run), "--adapt_prior", str(tmp_path), one]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{tmp_path / 'notes.txt'}: rejected, not_an_image")
    assert f"prior of {tmp_path}, from 3 images: " in second
    assert second.endswith("; fewer than 50 images give a rough guess")


def test_several_classes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bias, prior = np.array([0.0, 1.0, -1.0]), np.array([0.2, 0.3, 0.5])
    fitted = {"slope": 0.5, "bias": bias.tolist(), "prior": prior.tolist()}
    three = replace(read_config(str(run)), classes=("A", "B", "C"), adaptation=fitted)
    some = np.random.default_rng(0).dirichlet([3, 1, 1], 400)
    found = adapted("x", [some[:300], some[300:300], some[300:]], three)
    corrected = found.correct(some)
    np.testing.assert_allclose(corrected.mean(0), found.prior, atol=1e-6)
    expected = np.sqrt(some) * np.exp(bias) * found.prior / prior
    np.testing.assert_allclose(corrected, expected / expected.sum(1, keepdims=True), atol=1e-5)
    assert "from 400 images: A " in capsys.readouterr().err


def test_errors(run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    config = read_config(str(run))
    for changed, message in (
        (replace(config, label_kind=MULTI_HOT), "is for classes; run r finds several findings"),
        (replace(config, adaptation=None), "finish it again with python -m training.train --resume"),
    ):
        with pytest.raises(UsageError, match=message):
            check_adaptable("r", changed)
    with pytest.raises(JobFailed, match="no image that could be read is within the scope"):
        adapted("x", [np.empty((0, 1))], config)
    assert "no image that could be read" in fails(1, predict.main, "--run", run, "--adapt_prior", tmp_path, "x.png")


def test_wrong_entries(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    content = json.loads((copy / "config.json").read_text())
    right = {"slope": 1.0, "bias": [0.0, 0.5], "prior": [0.5, 0.5]}
    for wrong in ({"bias": [0.0]}, {"slope": "1"}, {"prior": [1, 0]}, {"prior": None}, {"bias": [0, float("nan")]}):
        (copy / "config.json").write_text(json.dumps({**content, "adaptation": {**right, **wrong}}))
        with pytest.raises(UsageError, match="is damaged"):
            read_config(str(copy))
