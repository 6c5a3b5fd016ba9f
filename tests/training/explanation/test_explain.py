"""The command: its pictures, its index, its warnings and its errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from schemas.errors import run_command
from schemas.labels import MULTI_HOT
from schemas.pixels.settings import ImageSettings
from tests.training.conftest import DataSet
from tests.training.untrained_runs import write_run
from training import explain
from training.explanation.randomised import randomised
from training.models.recipes import MODEL3
from training.runs.run_folder import load_run, read_config, write_config
from training.runs.weights_file import sha256_of


@pytest.fixture
def pneumonia(dataset: DataSet, tmp_path: Path) -> Path:
    """An image of 192x160 pixels that is bright in the middle, which the trained run knows as PNEUMONIA."""
    example = next(example for number, example in enumerate(dataset.examples["test"]) if example.label and number % 7)
    Image.fromarray(example.image[:, :, 0]).resize((192, 160), Image.Resampling.BILINEAR).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def explained(run: Path, output: Path, *words: object) -> Any:
    assert run_command(explain.main, ["--run", str(run), "--output", str(output), *map(str, words)]) == 0
    return json.loads((output / "explanations.json").read_text())


def opacity(path: Path) -> npt.NDArray[np.float64]:
    """How much colour there is: the difference of red and blue."""
    pixels = np.asarray(Image.open(path)).astype(float)
    assert pixels.shape[2] == 3
    difference: npt.NDArray[np.float64] = pixels[:, :, 0] - pixels[:, :, 2]
    return difference


def test_occlusion_shows_what_the_data_set_was_made_of(run: Path, pneumonia: Path, tmp_path: Path) -> None:
    index = explained(run, tmp_path / "out", pneumonia)
    (row,) = index["images"]
    assert {key: index[key] for key in ("method", "layer")} == {"method": "occlusion", "layer": None}
    assert index["run"]["weights_sha256"] == sha256_of(run / "model.weights.h5")
    assert (row["image"], row["target"], row["width"], row["height"]) == (str(pneumonia), "PNEUMONIA", 192, 160)
    assert {"probability", "class", "rank_correlation", "looks_alike"} <= set(row)
    red = opacity(tmp_path / "out" / row["map"])
    assert red.shape == (160, 192)
    middle = np.zeros((160, 192), bool)
    middle[52:108, 63:129] = True
    assert red[middle].mean() > 3 * np.abs(red[~middle]).mean()
    assert opacity(tmp_path / "out" / row["map_of_random_weights"]).shape == (160, 192)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "explanations.json",
        "a.occlusion.png",
        "a.occlusion.random.png",
    }

    (other,) = explained(run, tmp_path / "other", pneumonia, "--target", "NORMAL")["images"]
    assert opacity(tmp_path / "other" / other["map"])[middle].mean() < 0
    assert other["greatest"] == pytest.approx(row["greatest"], rel=1e-3)


def test_gradcam_and_activations(run: Path, pneumonia: Path, tmp_path: Path) -> None:
    keras.utils.clear_session()  # the names of layers begin anew, as in a process
    index = explained(run, tmp_path / "cam", pneumonia, "--method", "gradcam")
    assert index["layer"] == "conv2d"
    assert opacity(tmp_path / "cam" / "a.gradcam.png").min() >= -1  # no blue
    keras.utils.clear_session()
    index = explained(run, tmp_path / "act", pneumonia, "--method", "activations")
    (row,) = index["images"]
    assert "target" not in row
    assert row["sheets"] == ["a.activations.001-conv2d.png", "a.activations.002-max_pooling2d.png"]
    with Image.open(tmp_path / "act" / row["sheets"][0]) as sheet:
        assert sheet.size == (6 * 64, 16 + 6 * 64)  # 32 channels of 62x62
    keras.utils.clear_session()
    only = explained(run, tmp_path / "one", pneumonia, "--method", "activations", "--layer", "max_pooling2d")
    assert only["layer"] == "max_pooling2d"
    assert only["images"][0]["sheets"] == ["a.activations.001-max_pooling2d.png"]


def test_a_map_like_that_of_random_weights_is_warned_of(
    pneumonia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    write_run(run, MODEL3, ImageSettings(image_size=64))
    model, config = load_run(str(run))
    randomised(model).save_weights(run / "model.weights.h5")  # a model that has learned nothing
    digest = sha256_of(run / "model.weights.h5")
    write_config(str(run), type(config)(**{**vars(config), "weights_sha256": digest}))
    (row,) = explained(run, tmp_path / "out", pneumonia)["images"]
    assert (row["rank_correlation"], row["looks_alike"]) == (pytest.approx(1.0), True)
    out, err = capsys.readouterr()
    assert "rank correlation with random weights 1.00" in out
    assert err.startswith(f"warning: {pneumonia}: the map looks like the one of random weights")


def test_several_findings_and_images_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", MODEL3, ImageSettings(image_size=64), ("Mass", "Nodule"), MULTI_HOT)
    for folder in ("x", "y"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (70, 80), np.uint8)).save(
            tmp_path / "images" / folder / "1.png"
        )
    (tmp_path / "images/text.png").write_text("text")
    words = ["--run", tmp_path / "run", "--output", tmp_path / "out", "--method", "gradcam", tmp_path / "images"]
    assert run_command(explain.main, [str(word) for word in words]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1] == "error: 1 of 3 images could not be read"
    assert any(line.startswith(f"{tmp_path / 'images/text.png'}: rejected, not_an_image") for line in err)
    rows = json.loads((tmp_path / "out/explanations.json").read_text())["images"]
    assert [row["map"] for row in rows] == ["1.gradcam.png", "1-2.gradcam.png"]
    for row in rows:
        assert row["target"] == max(row["probabilities"], key=lambda name: float(row["probabilities"][name]))


def test_errors(run: Path, pneumonia: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    flags = ("--run", run, "--output", tmp_path / "out", pneumonia)
    assert "invalid choice: 'lime'" in fails(2, explain.main, *flags, "--method", "lime")
    assert "--target Mass: the run knows NORMAL, PNEUMONIA" in fails(2, explain.main, *flags, "--target", "Mass")
    assert "occlusion looks at no layer" in fails(2, explain.main, *flags, "--layer", "conv2d")
    activations = (*flags, "--method", "activations")
    assert "activations are of no class" in fails(2, explain.main, *activations, "--target", "NORMAL")
    assert "--layer x: model1 has no such layer; it has conv2d" in fails(2, explain.main, *activations, "--layer", "x")
    assert "has no config.json" in fails(2, explain.main, "--run", tmp_path, "--output", tmp_path / "out", pneumonia)
    assert "must be local" in fails(2, explain.main, "--run", run, "--output", "gs://b/x", pneumonia)
    (tmp_path / "file").write_text("")
    blocked = fails(2, explain.main, "--run", run, "--output", tmp_path / "file", pneumonia)
    assert "cannot write to --output" in blocked
    (tmp_path / "empty").mkdir()
    nothing = fails(1, explain.main, "--run", run, "--output", tmp_path / "out", tmp_path / "empty")
    assert "no image in the given folders" in nothing
    assert read_config(str(run)).recipe.name == "model1"
