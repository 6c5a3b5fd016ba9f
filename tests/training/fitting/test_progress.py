"""What training tells of its speed, on a clock of the test's; and the bar on a real terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.conftest import ROOT
from tests.training.conftest import DataSet
from training.devices.waiting import Waiting
from training.fitting.checkpoint import Place
from training.fitting.progress import Progress


def test_steps_that_compile_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    waiting = Waiting()
    told = Progress(Place(), epochs=3, steps=4, examples=35, waiting=waiting)
    # Seconds of each step, and of the validation. Batches of 10, and one of 5, for which the first epoch compiles again.
    for epoch, (steps, validation) in enumerate((((9, 1, 1, 8), 7), ((1, 1, 1, 1), 2), ((1, 1, 1, 1), 2))):
        told.on_epoch_begin(epoch)
        for number, seconds in enumerate(steps):
            clock[0] += seconds
            told.on_train_batch_end(number)
        told.on_test_begin()
        clock[0] += validation
        told.on_epoch_end(epoch, {"loss": 0.5})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("; ")[2].partition("; ")[2] or line.rpartition("; ")[2] for line in lines] == [
        "26.0 s, 9 images/s, 00:22 left",  # eight steps, and two validations like the first
        "6.0 s, 9 images/s, 00:06 left",
        "6.0 s, 9 images/s, 00:00 left",
    ]
    waiting.add_source(lambda: 9.0)
    assert told.share_of_waiting() == 9 / 18  # all steps but the first


def test_a_bar_on_a_terminal(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Step, epoch, images/s and time left; what is not a terminal gets a line for each epoch."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))  # rows and columns
    words = ["--data", str(dataset.folder), "--recipe", "model1", "--epochs", "1", "--batch_size", "1"]
    output = str(tmp_path_factory.mktemp("runs") / "run")
    command = [sys.executable, "-m", "training.train", *words, "--output", output]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=inner, text=True) as process:
        os.close(inner)
        shown = b""
        while True:
            try:
                part = os.read(outer, 4096)
            except OSError:  # Linux says so that the other side has ended
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    os.close(outer)
    assert process.returncode == 0
    text = shown.decode()
    assert re.search(r"epoch 1/1: +\d+%\|.*\| \d+/96 .*step", text)
    assert re.search(r"[\d,]+ images/s, \d\d:\d\d left", text)
    assert [line for line in lines if line.startswith("epoch ")] == [line for line in lines if "images/s" in line]
    assert len([line for line in lines if line.startswith("epoch ")]) == 1
