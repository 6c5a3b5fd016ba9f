"""Prediction from files agrees with evaluation of the same images in a data set; broken files do not stop it."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import run_command
from tests.beam_jobs.standin_words import HANG, HANGS, TOLD, stand_in_path
from tests.conftest import children_of
from tests.training.conftest import DataSet
from training import predict, train
from training.predicting.scope_file import read_scope
from training.runs.run_folder import load_run


@pytest.fixture
def files(dataset: DataSet, tmp_path: Path) -> list[Path]:
    """Six test images as 64x64 PNG files: decoding leaves them as they are."""
    for number, example in enumerate(dataset.examples["test"][:6]):
        Image.fromarray(example.image[:, :, 0]).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(6)]


def test_the_same_as_the_model_says_of_the_record(
    dataset: DataSet, run: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(predict.main, ["--run", str(run), *map(str, files)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    model, config = load_run(str(run))
    expected = np.asarray(model(np.stack([example.image for example in dataset.examples["test"][:6]])))[:, 0]
    assert [path for path, *_ in lines] == [str(path) for path in files]
    np.testing.assert_allclose([float(probability) for _, probability, *_ in lines], expected, atol=2e-6)
    assert config.threshold is not None
    classes = [config.classes[int(p >= config.threshold["value"])] for p in expected]
    assert [name for _, _, name, *_ in lines] == classes
    assert config.calibration is not None
    logits = np.log(expected / (1 - expected)) / config.calibration["temperature"]
    np.testing.assert_allclose([float(line[3]) for line in lines], 1 / (1 + np.exp(-logits)), atol=2e-6)
    known = read_scope(str(run))
    assert known is not None
    scores = known.scores(np.stack([example.image for example in dataset.examples["test"][:6]]))
    np.testing.assert_allclose([float(line[5]) for line in lines], scores, atol=2e-6)
    assert [line[4] for line in lines] == ["out_of_scope" if score > 1 else "in_scope" for score in scores]
    sha256 = hashlib.sha256((run / "model.weights.h5").read_bytes()).hexdigest()
    assert [line[6:] for line in lines] == [[sha256[:12]]] * 6


def test_a_folder_and_json_lines(
    run: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".hidden").write_bytes(b"no image")
    assert run_command(predict.main, ["--run", str(run), "--json", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in files]
    assert all(
        list(row) == ["path", "probability", "class", "calibrated_probability", "out_of_scope", "scope_score", "run"]
        for row in rows
    )
    assert run_command(predict.main, ["--run", str(run), "--format", "json", str(tmp_path)]) == 0
    assert capsys.readouterr().out == out


def test_csv(run: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / 'K\u00f6ln, "left"\nlung.png'
    files[0].rename(odd)
    assert run_command(predict.main, ["--run", str(run), "--json", str(odd), str(files[1])]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert run_command(predict.main, ["--run", str(run), "--format", "csv", str(odd), str(files[1])]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert [row[name] for name in ("path", "class", "run")] == [wanted[name] for name in ("path", "class", "run")]
        assert {"true": True, "false": False}[row["out_of_scope"]] == wanted["out_of_scope"]
        for name in ("probability", "calibrated_probability", "scope_score"):
            assert float(row[name]) == wanted[name]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
@pytest.mark.parametrize("format", ["table", "csv"])
def test_a_name_that_is_no_text_leaves_as_it_came(
    run: Path, files: list[Path], capfdbinary: pytest.CaptureFixture[bytes], format: str
) -> None:
    odd = os.fsencode(files[0].parent) + b"/\xff.png"
    os.rename(files[0], odd)
    assert run_command(predict.main, ["--run", str(run), "--format", format, os.fsdecode(odd)]) == 0
    assert odd in capfdbinary.readouterr().out


def test_what_is_no_such_image_is_out_of_scope(
    run: Path, tmp_path: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[::8] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert run_command(predict.main, ["--run", str(run), "--json", str(tmp_path / "stripes.png"), str(files[1])]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["out_of_scope"] for row in found] == [True, False]
    assert found[0]["scope_score"] > 2


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_a_run_without_a_scope(
    run: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    (old / "scope.json").unlink()
    assert run_command(predict.main, ["--run", str(old), "--format", format, str(files[0]), str(files[1])]) == 0
    out, err = capsys.readouterr()
    assert err == (
        f"warning: run {old} has no scope.json, so no image is found out of scope; "
        "add it with python -m training.train --resume\n"
    )
    last = out.splitlines()[-1]
    if format == "json":
        assert [json.loads(last)[name] for name in ("out_of_scope", "scope_score")] == [None, None]
    else:
        cells = last.split("," if format == "csv" else "\t")
        assert cells[4:6] == (["", ""] if format == "csv" else ["unknown", "-"])


def test_resuming_adds_the_scope_to_an_old_run(dataset: DataSet, run: Path, tmp_path: Path) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    (old / "scope.json").unlink()
    config = json.loads((old / "config.json").read_text())
    del config["adaptation"]
    (old / "config.json").write_text(json.dumps(config))
    flags = ["--data", str(dataset.folder), "--recipe", "model1", "--epochs", "3", "--batch_size", "32", "--resume"]
    assert run_command(train.main, [*flags, "--output", str(old)]) == 0
    for name in ("scope.json", "config.json", "model.weights.h5"):
        assert (old / name).read_bytes() == (run / name).read_bytes(), name


def test_broken_images_are_named_and_the_others_go_on(
    run: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("not an image")
    cut = tmp_path / "cut.png"
    cut.write_bytes(files[0].read_bytes()[:500])
    paths = [files[0], tmp_path / "text.png", cut, tmp_path / "absent.png", files[1]]
    assert run_command(predict.main, ["--run", str(run), *map(str, paths)]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(files[0]), str(files[1])]
    lines = err.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'text.png'}: rejected, not_an_image")
    assert lines[1].startswith(f"{cut}: rejected, ")
    assert lines[2] == f"{tmp_path / 'absent.png'}: no such file"
    assert lines[3] == "error: 3 of 5 images could not be read"


def test_a_file_that_no_decoder_has_room_for_is_not_read(
    run: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "large.dcm").open("wb") as large:
        large.truncate(1 << 40)
    assert run_command(predict.main, ["--run", str(run), str(large.name), str(files[0])]) == 1
    out, err = capsys.readouterr()
    assert (
        err.splitlines()[0] == f"{large.name}: rejected, file_too_large: 1048576 MiB, but a decoder takes at most 682"
    )
    assert len(out.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_an_interrupt_does_not_wait_for_an_image_that_hangs(run: Path, files: list[Path], tmp_path: Path) -> None:
    told = tmp_path / f"{TOLD}here"
    told.mkdir()
    files[3].write_bytes(files[3].read_bytes() + HANG)
    predicting = subprocess.Popen(
        [sys.executable, "-m", "training.predict", "--run", str(run), *map(str, files)],
        env={**os.environ, "PYTHONPATH": stand_in_path(told)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (told / HANGS).exists():
        assert predicting.poll() is None, predicting.communicate()
        time.sleep(0.05)
    decoders = children_of(predicting.pid)
    predicting.send_signal(signal.SIGINT)
    out, err = predicting.communicate(timeout=30)  # half of the time that the image is given
    assert (predicting.returncode, out, err) == (130, "", "interrupted\n")
    assert not [process for process in decoders if Path(f"/proc/{process}").exists()]


def test_errors(run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image in the given folders" in fails(1, predict.main, "--run", run, tmp_path / "empty")
    assert "has no config.json" in fails(2, predict.main, "--run", tmp_path, "x.png")
    assert "required: IMAGE" in fails(2, predict.main, "--run", run)
    assert "s3:// is not supported" in fails(2, predict.main, "--run", "s3://b/r", "x.png")
    assert "s3:// is not supported" in fails(2, predict.main, "--run", run, "--adapt_prior", "s3://b/x", "x.png")
    assert "must be one of table, json, csv" in fails(2, predict.main, "--run", run, "--format", "xml", "x.png")
