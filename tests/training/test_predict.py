"""Prediction from files agrees with evaluation of the same images in a data set; broken files do not stop it."""

import json
import os
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
from training import predict
from training.run_folder import load_run


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
    assert [path for path, _, _ in lines] == [str(path) for path in files]
    np.testing.assert_allclose([float(probability) for _, probability, _ in lines], expected, atol=2e-6)
    assert config.threshold is not None
    classes = [config.classes[int(p >= config.threshold["value"])] for p in expected]
    assert [name for _, _, name in lines] == classes


def test_a_folder_and_json_lines(
    run: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".hidden").write_bytes(b"no image")
    assert run_command(predict.main, ["--run", str(run), "--json", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in files]
    assert all(set(row) == {"path", "probability", "class"} for row in rows)


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
