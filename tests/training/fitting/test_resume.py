"""A run that is stopped or killed and resumed is the undisturbed one: the same history and the same weights, bit by bit."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UsageError, run_command
from tests.training.conftest import DataSet
from training import train
from training.fitting.checkpoint import read_place
from training.runs.run_folder import load_run, read_history

ROOT = Path(__file__).parents[3]
# Dropout, augmentation, order, class weights and Adam's moments all have a state to bring back. 24 steps an epoch.
SETTINGS = ("--recipe", "model1", "--batch_size", "4", "--epochs", "3", "--augment", "--balanced", "--seed", "3")


def flags(dataset: DataSet, output: Path, *more: str) -> list[str]:
    return ["--data", str(dataset.folder), "--output", str(output), *SETTINGS, *more]


@pytest.fixture(scope="module")
def whole(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert run_command(train.main, flags(dataset, output)) == 0
    return output


def assert_same_run(first: Path, second: Path) -> None:
    rows, others = read_history(str(first)), read_history(str(second))
    # JAX compiles a validation outside of fit in another way: the last bit of its loss may differ.
    assert others == [pytest.approx(row, rel=1e-6) for row in rows]
    (model, config), (again, config_again) = load_run(str(first)), load_run(str(second))
    assert config_again.best == pytest.approx(config.best, rel=1e-6)
    assert config_again.threshold == config.threshold
    for weight, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(other, weight)


def begun(dataset: DataSet, output: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "training.train", *flags(dataset, output, "--resume", *more)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():  # it may pass: asked once, it is not asked again
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_in_the_first_and_the_second_epoch_and_in_a_checkpoint(
    dataset: DataSet, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    moments: Iterator[Callable[[], bool]] = iter(
        (
            (output / "config.json").exists,  # before or in the first epoch
            # While the first checkpoint is written, between the history and the second checkpoint, or soon after.
            lambda: any((output / "backup" / name).exists() for name in (".state.npz.part", "state.npz")),
            lambda: len(read_history(str(output))) >= 2,
        )
    )
    for moment in moments:
        with begun(dataset, output) as process:
            until(moment)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        with pytest.raises(UsageError, match=r"is not finished.*--resume"):
            load_run(str(output))
    assert run_command(train.main, flags(dataset, output, "--resume")) == 0
    assert_same_run(whole, output)


def test_a_finished_run_goes_on_for_more_epochs(dataset: DataSet, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "1", "--resume")) == 0
    assert run_command(train.main, flags(dataset, output, "--epochs", "3", "--resume")) == 0
    assert_same_run(whole, output)


def test_stopped_by_signals_within_epochs(dataset: DataSet, tmp_path: Path) -> None:
    """Each time the run goes on until it is in another epoch, and is stopped there."""
    small = ("--batch_size", "1")  # 96 steps an epoch, so that a signal seldom meets the end of one
    whole, output = tmp_path / "whole", tmp_path / "stopped"
    assert run_command(train.main, flags(dataset, whole, *small)) == 0
    places = []
    for number in (signal.SIGTERM, signal.SIGINT):
        rows = len(read_history(str(output)))
        with begun(dataset, output, *small) as process:
            until(lambda rows=rows: len(read_history(str(output))) > rows)  # type: ignore[misc]
            time.sleep(0.05)
            process.send_signal(number)
            assert process.stderr is not None
            (line,) = process.stderr.read().splitlines()
        assert process.returncode == 128 + number
        place = read_place(str(output))
        places.append(place)
        assert line == (
            f"stopped in epoch {place.epoch + 1}, after {place.step} of 96 steps; "
            "give the same command with --resume to continue"
        )
    assert places[0] != places[1]
    assert run_command(train.main, flags(dataset, output, *small, "--resume")) == 0
    assert_same_run(whole, output)


def test_stopped_while_the_last_epoch_is_saved(dataset: DataSet, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    program = f"""
import os, signal, sys
from schemas.errors import run_command
from training.fitting.fit import train
from training.runs.run_folder import read_history
from training.train import parse
def saved():
    if len(read_history({str(output)!r})) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
sys.exit(run_command(lambda argv: train(parse(argv), saved)))
"""
    command = [sys.executable, "-c", program, *flags(dataset, output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 128 + signal.SIGTERM
    last = done.stderr.splitlines()[-1]
    assert last == "stopped after the last epoch; give the same command with --resume to finish the run"
    assert run_command(train.main, flags(dataset, output, "--resume")) == 0
    assert_same_run(whole, output)


def test_stopped_while_the_run_is_finished(dataset: DataSet, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    program = f"""
import os, sys
from schemas.errors import run_command
from training import train
from training.fitting import finish
finish.fit_scope = lambda *_: os.kill(os.getpid(), {int(signal.SIGTERM)})
sys.exit(run_command(train.main, sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, *flags(dataset, output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 128 + signal.SIGTERM
    last = done.stderr.splitlines()[-1]
    assert last == "stopped while the run was finished; give the same command with --resume to finish it"
    assert run_command(train.main, flags(dataset, output, "--resume")) == 0
    assert_same_run(whole, output)


def test_a_run_stopped_in_its_validation(dataset: DataSet, whole: Path, tmp_path: Path) -> None:
    """Written by hand: a signal cannot be timed to hit it."""
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "1")) == 0
    row = read_history(str(output))[0]
    logs = {name: value for name, value in row.items() if name != "epoch" and not name.startswith("val_")}
    (output / "history.csv").unlink()
    with np.load(output / "backup" / "state.npz") as arrays:
        state = dict(arrays)
    state["place"] = np.array(json.dumps({"epoch": 0, "step": 24, "logs": logs}))
    np.savez(output / "backup" / "state.npz", **state)
    assert run_command(train.main, flags(dataset, output, "--resume")) == 0
    assert_same_run(whole, output)


def test_a_damaged_checkpoint(dataset: DataSet, tmp_path: Path, fails: Callable[..., str]) -> None:
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "1")) == 0
    path = output / "backup" / "state.npz"
    path.write_bytes(path.read_bytes()[:1000])
    line = fails(1, train.main, *flags(dataset, output, "--resume"))
    assert f"checkpoint {path} is damaged; train again with --overwrite" in line


def test_a_checkpoint_of_an_earlier_release(dataset: DataSet, tmp_path: Path, fails: Callable[..., str]) -> None:
    output = tmp_path / "run"
    assert run_command(train.main, flags(dataset, output, "--epochs", "1")) == 0
    (output / "backup" / "state.npz").rename(output / "backup" / "latest.weights.h5")
    assert "was begun by an earlier release" in fails(2, train.main, *flags(dataset, output, "--resume"))
