"""Runs that cannot be loaded: one line each."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import JobFailed, UsageError
from training.decisions.calibration import calibrated
from training.runs.run_folder import load_run, read_config, read_history, write_history


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


def change(copy: Path, **values: object) -> None:
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**content, **values}))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json"):
        load_run(str(tmp_path))


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '"text"', '{"format": "radrecords-run", "format_version": 1}', "\xff"]
)
def test_damaged_config(copy: Path, text: str) -> None:
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"config\.json of run .* (is damaged|is not a radrecords run)"):
        load_run(str(copy))


@pytest.mark.parametrize(
    "values",
    [
        {"recipe": {"name": "x"}},
        {"image": {"image_size": "big"}},
        {"threshold": {}},
        {"extra": 1},
        {"operating_point": "best"},
        {"calibration": {"temperature": 0}},
        {"calibration": {}},
    ],
)
def test_config_with_wrong_entries(copy: Path, values: dict[str, object]) -> None:
    change(copy, **values)
    with pytest.raises(UsageError, match="is damaged"):
        load_run(str(copy))


def test_newer_version(copy: Path) -> None:
    change(copy, format_version=3)
    with pytest.raises(UsageError, match="format version 3, but this radrecords reads up to 2; upgrade"):
        load_run(str(copy))


def test_a_run_of_the_first_release(copy: Path, run: Path) -> None:
    recipe = json.loads((copy / "config.json").read_text())["recipe"]
    change(copy, recipe={**recipe, "expect": "One convolution."})
    assert read_config(str(copy)) == read_config(str(run))


def test_a_run_without_a_temperature(copy: Path) -> None:
    content = json.loads((copy / "config.json").read_text())
    del content["operating_point"], content["calibration"], content["threshold"]["kind"]
    (copy / "config.json").write_text(json.dumps(content))
    _, config = load_run(str(copy))
    assert (config.operating_point, config.calibration) == ("youden", None)
    assert calibrated(np.array([[0.3]]), config) == 0.3


def test_unfinished(copy: Path) -> None:
    change(copy, threshold=None)
    with pytest.raises(UsageError, match="is not finished"):
        load_run(str(copy))


def test_weights_missing_cut_or_of_another_model(copy: Path, run: Path) -> None:
    weights = copy / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UsageError, match=r"model\.weights\.h5 of run .* is not the file that training left"):
        load_run(str(copy))
    weights.unlink()
    with pytest.raises(UsageError, match=r"has no model\.weights\.h5"):
        load_run(str(copy))
    shutil.copy(run / "model.weights.h5", weights)
    config = json.loads((copy / "config.json").read_text())
    change(copy, recipe={**config["recipe"], "model": "model3"})
    with pytest.raises(UsageError, match="is damaged"):
        load_run(str(copy))


def test_history_reads_back_as_written(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "loss": 0.1 + 0.2, "val_auc": 1 / 3}, {"epoch": 2, "loss": 1e-9, "val_auc": 0.5}]
    write_history(str(tmp_path), rows)
    assert read_history(str(tmp_path)) == rows


@pytest.mark.parametrize("text", ["epoch,loss\n2,0.5\n", "loss\n0.5\n", "epoch,loss\n1\n", "epoch,loss\n1,x\n"])
def test_damaged_history(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(JobFailed, match=r"history\.csv of run .* is damaged"):
        read_history(str(tmp_path))
