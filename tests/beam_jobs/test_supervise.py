"""Whole local runs, as a user starts them, whose decoder crashes or hangs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest

from tests.beam_jobs.standin_words import EXIT, HANG, SEGFAULT, stand_in_path
from tests.conftest import files_of, labelled, manifest_of, write_images

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are supervised on Linux only")
BAD = {"NORMAL/3.jpeg": EXIT, "PNEUMONIA/5.jpeg": SEGFAULT, "PNEUMONIA/7.jpeg": HANG}


def started(raw: Path, output: Path, *flags: object) -> subprocess.Popen[str]:
    temporary = output.parent / f"tmp of {output.name}"
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.convert", "--input", str(raw), "--output", str(output), "--shards", "3"]
        + ["--max_reject_fraction", "0.2", *map(str, flags)],
        env={**os.environ, "PYTHONPATH": stand_in_path(), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def marked(folder: Path, bad: dict[str, bytes]) -> Path:
    raw = write_images(folder, labelled(20, suffix=".jpeg"))
    for name, word in bad.items():
        (raw / name).write_bytes((raw / name).read_bytes() + word)
    return raw


@pytest.mark.parametrize("beam", [(), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")])
def test_a_run_survives_its_decoder(tmp_path: Path, beam: tuple[str, ...]) -> None:
    raw = marked(tmp_path / "raw", BAD)
    run = started(raw, tmp_path / "out", "--decode_timeout", 2, *beam)
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    assert "Traceback" not in err
    assert "in a process of its own" in err
    assert manifest_of(tmp_path / "out")["quarantined"] == {"decoder_crashed": 2, "decoder_timeout": 1}
    assert "40 listed = 37 written + 3 quarantined (2 decoder_crashed, 1 decoder_timeout)" in out
    lines = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert {str(Path(line["uri"]).relative_to(raw)): line["reason"] for line in lines} == {
        name: "decoder_timeout" if word is HANG else "decoder_crashed" for name, word in BAD.items()
    }
    assert not (tmp_path / "out/_work").exists()
    assert not [path for path in (tmp_path / "tmp of out").iterdir() if path.name.startswith("radrecords-")]

    # The same set, with the three files broken in a way that takes no process with it.
    for name in BAD:
        (raw / name).write_bytes(b"")
    calm = started(raw, tmp_path / "calm")
    assert calm.wait(timeout=240) == 0, calm.communicate()
    calm.communicate()
    shards = [{n: c for n, c in files_of(tmp_path / o).items() if ".tfrecord-" in n} for o in ("out", "calm")]
    assert shards[0] == shards[1]


def test_a_stuck_decoder_keeps_no_memory_from_the_images_after_it(tmp_path: Path) -> None:
    raw = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG})
    with (raw / "PNEUMONIA/5.jpeg").open("r+b") as file:
        file.truncate(1 << 27)  # all that the threads may hold together
    run = started(raw, tmp_path / "out", "--decode_timeout", 2, "--threads", 2)
    _, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    assert manifest_of(tmp_path / "out")["quarantined"] == {"decoder_timeout": 1}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_what_ends_the_launcher_ends_the_run(tmp_path: Path, number: int, code: int) -> None:
    raw = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG})
    run = started(raw, tmp_path / "out", "--decode_timeout", 600)
    while not list((tmp_path / "out").glob("_work/r1/attempt-*")):
        assert run.poll() is None, run.communicate()
        sleep(0.05)
    (child,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    status = Path(f"/proc/{child}/stat")
    for _ in range(600):
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        sleep(0.05)
    else:
        pytest.fail("the run goes on without its launcher")

    # The same command again, with a shorter limit, finishes where it was.
    again = started(raw, tmp_path / "out", "--decode_timeout", 1)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert manifest_of(tmp_path / "out")["quarantined"] == {"decoder_timeout": 1}


def test_errors_of_a_supervised_run_are_one_line(tmp_path: Path) -> None:
    run = started(tmp_path / "absent", tmp_path / "out")
    out, err = run.communicate(timeout=240)
    assert (run.returncode, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
