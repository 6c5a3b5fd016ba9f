"""Runs in a bucket that are killed and resumed on another machine are the undisturbed run, bit by bit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from google.api_core.exceptions import NotFound

from schemas.errors import run_command
from tests.conftest import ROOT
from tests.gcs.bucket import Bucket
from tests.gcs.front import Traffic, of_uploads, running_front
from tests.gcs.stored_runs import assert_same_run, downloaded, objects_of, pointer_of
from tests.training.conftest import write_dataset
from training import train
from training.fitting.checkpoint import read_place
from training.runs.run_folder import read_history

pytestmark = pytest.mark.faults

# 96 steps an epoch, so that a signal seldom meets the end of one.
SETTINGS = ("--recipe", "model1", "--batch_size", "1", "--epochs", "4", "--augment", "--balanced", "--seed", "3")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "toy", {"train": 96, "validation": 40}).folder


def flags(data: Path, output: object, *more: str) -> list[str]:
    return ["--data", str(data), "--output", str(output), *SETTINGS, *more]


def begun(data: Path, output: str, temporary: Path, **environment: str) -> "subprocess.Popen[str]":
    """Training on a machine with a folder for temporary files of its own."""
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "training.train", *flags(data, output, "--resume")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert happened()


def epochs(bucket: Bucket) -> int:
    """The finished epochs of the run."""
    with contextlib.suppress(NotFound):  # replaced between two requests
        if entry := pointer_of(bucket)["files"].get("history.csv"):
            return len(bucket.read(f"runs/x/{entry['object']}").splitlines()) - 1
    return 0


def test_killed_before_run_json_is_replaced_then_stopped_and_resumed_elsewhere(
    bucket: Bucket, bucket_server: str, data: Path, tmp_path: Path
) -> None:
    output = f"{bucket.uri}/runs/x"
    killed: list[int] = []

    def kill(_number: int) -> int:
        """Kills training when it has uploaded the checkpoint of the second epoch, and is about to replace run.json."""
        if len([name for name in bucket.names() if name.endswith("state.npz")]) < 2:
            return 0
        process.kill()
        killed.append(process.pid)
        return 503

    with running_front(bucket_server, Traffic(of_uploads(kill))) as proxy:
        process = begun(data, output, tmp_path / "first", STORAGE_EMULATOR_HOST=proxy)
        with process:
            until(lambda: process.poll() is not None)
    assert killed
    assert process.returncode == -signal.SIGKILL
    torn = downloaded(bucket, tmp_path / "torn")
    assert len(read_history(str(torn))) == read_place(str(torn)).epoch == 1
    assert set(objects_of(bucket)) < set(bucket.names())

    with begun(data, output, tmp_path / "second") as process:
        until(lambda: epochs(bucket) > 1)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()
    assert process.returncode == 128 + signal.SIGTERM
    place = read_place(str(downloaded(bucket, tmp_path / "stopped")))
    assert place.epoch >= 2
    assert f"stopped in epoch {place.epoch + 1}, after {place.step} of 96 steps; give the same command with" in line
    assert not list((tmp_path / "second").iterdir())
    assert bucket.names() == objects_of(bucket)

    assert run_command(train.main, flags(data, output, "--resume")) == 0
    assert run_command(train.main, flags(data, tmp_path / "whole")) == 0
    assert_same_run(downloaded(bucket, tmp_path / "again"), tmp_path / "whole")
    assert bucket.names() == objects_of(bucket)
