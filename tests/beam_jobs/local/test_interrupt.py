"""Commands that are interrupted, by the user or by the system, print one line and end every process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from tests.beam_jobs.local.launched import (
    FLAGS,
    PROCESSES,
    decoders,
    left_in,
    marked,
    running,
    started,
    wait_until_it_hangs,
    wait_until_no_decoder_is_left,
)
from tests.beam_jobs.standin_words import HANG
from tests.conftest import Result, labelled, manifest_of, write_images

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are supervised on Linux only")


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (signal.SIGTERM, 130, ["interrupted; nothing was published; run the same command again to continue"]),
        (signal.SIGKILL, -9, []),
    ],
)
def test_a_signal_that_ends_the_launcher_ends_the_run(tmp_path: Path, number: int, code: int, says: list[str]) -> None:
    raw = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG})
    run = started(raw, tmp_path / "out", "--decode_timeout", 600)
    wait_until_it_hangs(run, tmp_path / "out")
    (child,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    assert [line for line in err.splitlines() if line.strip() and "images/s" not in line] == says
    status = Path(f"/proc/{child}/stat")
    for _ in range(600):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        sleep(0.05)
    else:
        pytest.fail("the run continues without its launcher")
    wait_until_no_decoder_is_left(tmp_path / "out")

    # The same command with a shorter time limit continues the run and finishes it.
    again = started(raw, tmp_path / "out", "--decode_timeout", 1)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert manifest_of(tmp_path / "out")["quarantined"] == {"decoder_timeout": 1}
    assert not left_in(tmp_path / "tmp of out")


@pytest.mark.parametrize("everyone", [True, False], ids=["whole group", "launcher only"])
@pytest.mark.parametrize("beam", [(), PROCESSES], ids=["threads", "processes"])
def test_an_interrupt_prints_one_line_and_ends_every_process(
    tmp_path: Path, convert: Callable[..., Result], beam: tuple[str, ...], everyone: bool
) -> None:
    raw, output = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG}), tmp_path / "out"
    run = started(raw, output, "--decode_timeout", 600, *beam)
    wait_until_it_hangs(run, output)
    assert decoders(output)
    os.killpg(run.pid, signal.SIGINT) if everyone else run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)  # the image hangs for longer
    assert not running(output)
    assert not decoders(output)
    assert (run.returncode, out) == (130, "")
    lines = [line for line in err.splitlines() if line.strip() and "images/s" not in line]
    assert lines == ["interrupted; nothing was published; run the same command again to continue"]
    assert not [path for path in (tmp_path / "tmp of out").iterdir() if path.name.startswith("radrecords-")]

    assert convert(raw, output, *FLAGS).code == 0  # with the real decoder, to which nothing is wrong with the image
    assert manifest_of(output)["inputs"]["written"] == 40
    assert not (output / "_work").exists()


def has_loaded(process: int, library: str) -> bool:
    return library in Path(f"/proc/{process}/maps").read_text()


def test_an_interrupt_while_python_loads_prints_one_line(tmp_path: Path) -> None:
    raw = write_images(tmp_path / "raw", labelled(20))
    # Parts of NumPy: a busy machine starts Python late, and a fast one is done soon.
    for library in ("_multiarray_umath", "_pickle", "_ctypes", "_umath_linalg"):
        run = subprocess.Popen(
            [sys.executable, "-m", "beam_jobs.convert", "--input", raw, "--output", tmp_path / "out", "--overwrite"],
            stderr=subprocess.PIPE,
            text=True,
        )
        while not has_loaded(run.pid, library):
            assert run.poll() is None
            sleep(0.001)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        lines = [line for line in err.splitlines() if line.strip() and "images/s" not in line]
        assert run.returncode == 130, err
        assert len(lines) == 1
        assert lines[0].startswith("interrupted")


# A module that turns an interrupt into an ImportError, as NumPy does.
HALF_LOADED = """
import os, signal, time
os.write(2, b"a line of a library")
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("read this for advice") from None
"""


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("numpy", ["beam_jobs.convert", "--input", "in", "--output", "out"]),
        (
            "apache_beam",
            [
                *("beam_jobs.convert", "--input", "gs://b/in", "--output", "gs://b/out"),
                *("--runner=DataflowRunner", "--project=p", "--region=r"),
            ],
        ),
        ("tensorflow", ["training.predict", "--run", "run", "image.png"]),
    ],
)
def test_an_interrupt_while_a_library_loads_prints_one_line(tmp_path: Path, module: str, command: list[str]) -> None:
    (tmp_path / f"{module}.py").write_text(HALF_LOADED)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    shown = "" if module == "tensorflow" else "a line of a library"
    assert (done.returncode, done.stderr) == (130, f"{shown}interrupted\n")


def test_an_interrupted_dry_run_says_so(tmp_path: Path) -> None:
    raw = write_images(tmp_path / "raw", labelled(1000), side=8)
    run = started(raw, tmp_path / "out", "--dry_run")
    while not any((tmp_path / "tmp of out").glob("radrecords-*")):  # Python tries the folder first
        assert run.poll() is None, run.communicate()
        sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out, err.split()) == (130, "", ["interrupted"])
    assert not running(tmp_path / "out")
    assert not list((tmp_path / "tmp of out").iterdir())
