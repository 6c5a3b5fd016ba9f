"""Whole local runs, started as a user starts them, that lose a decoder or another process or are interrupted."""

import json
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
    left_in,
    marked,
    processes,
    running,
    started,
    wait_until_it_hangs,
)
from tests.beam_jobs.standin_words import EXIT, HANG, SEGFAULT
from tests.conftest import Result, files_of, manifest_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are supervised on Linux only")
BAD = {"NORMAL/3.jpeg": EXIT, "PNEUMONIA/5.jpeg": SEGFAULT, "PNEUMONIA/7.jpeg": HANG}


@pytest.mark.parametrize("beam", [(), PROCESSES], ids=["threads", "processes"])
def test_a_run_survives_decoders_that_crash_or_hang(
    tmp_path: Path, convert: Callable[..., Result], beam: tuple[str, ...]
) -> None:
    raw = marked(tmp_path / "raw", BAD)
    run = started(raw, tmp_path / "out", "--decode_timeout", 2, *beam)
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    assert "Traceback" not in err
    assert manifest_of(tmp_path / "out")["quarantined"] == {"decoder_crashed": 2, "decoder_timeout": 1}
    assert "40 listed = 37 written + 3 quarantined (2 decoder_crashed, 1 decoder_timeout)" in out
    lines = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert {str(Path(line["uri"]).relative_to(raw)): line["reason"] for line in lines} == {
        name: "decoder_timeout" if word is HANG else "decoder_crashed" for name, word in BAD.items()
    }
    assert not (tmp_path / "out/_work").exists()
    assert not left_in(tmp_path / "tmp of out")

    # The same set, but now the three files are broken in a way that ends no process.
    for name in BAD:
        (raw / name).write_bytes(b"")
    assert convert(raw, tmp_path / "calm", *FLAGS).code == 0
    shards = [{n: c for n, c in files_of(tmp_path / o).items() if ".tfrecord-" in n} for o in ("out", "calm")]
    assert shards[0] == shards[1]


def test_temporary_folders_of_killed_launchers_are_deleted_and_those_of_live_ones_are_kept(tmp_path: Path) -> None:
    raw = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG})
    (tmp_path / "tmp of living/radrecords-mine").mkdir(parents=True)
    temporary = tmp_path / "tmp of living"
    living = started(raw, tmp_path / "living", "--decode_timeout", 600)
    killed = started(raw, tmp_path / "killed", "--decode_timeout", 600, temporary=temporary)
    try:
        while len(list(temporary.glob("radrecords-*/radrecords-*"))) < 2:
            assert (living.poll(), killed.poll()) == (None, None)
            sleep(0.05)
    finally:
        killed.kill()
        killed.communicate()
    try:
        third = started(tmp_path / "absent", tmp_path / "third", temporary=temporary)
        third.communicate(timeout=60)
        left = left_in(temporary)
    finally:
        living.terminate()
        living.communicate()
    assert len(left) == 2  # radrecords-mine, and the folder of the live launcher
    assert temporary / "radrecords-mine" in left


# A run that is lost while one of its workers is still writing to the temporary folder, as they do for a moment.
LOST = """
import os, signal, subprocess, sys, tempfile
from beam_jobs.local import supervise
from beam_jobs.settings.config import ConvertConfig
from schemas.errors import JobFailed

WRITER = '''
import os, sys, time
end = time.monotonic() + 1.5
while time.monotonic() < end:
    os.makedirs(sys.argv[1] + "/told", exist_ok=True)
    open(f"{sys.argv[1]}/told/{time.monotonic()}", "w").close()
'''

def run():
    subprocess.Popen([sys.executable, "-c", WRITER, tempfile.gettempdir()])
    while not os.path.exists(tempfile.gettempdir() + "/told"):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

try:
    supervise.run_in_child(run, ConvertConfig("/none/in", "/none/out"), [])
except JobFailed:
    sys.exit(7)
"""


def test_a_lost_run_leaves_nothing_even_if_its_workers_outlive_it_for_a_moment(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOST], env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=60)
    assert done.returncode == 7
    assert not left_in(tmp_path)


def test_a_lost_run_is_reported_on_a_separate_line(tmp_path: Path) -> None:
    raw = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG})
    run = started(raw, tmp_path / "out", "--decode_timeout", 600)
    wait_until_it_hangs(run, tmp_path / "out")
    assert run.stderr
    shown = b""
    while b"images/s" not in shown:  # the progress bar, which does not end its line
        assert run.poll() is None, shown
        shown += os.read(run.stderr.fileno(), 1000)
    (child,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1, err
    assert err.split("\n")[-2] == "error: the process was lost, with signal 9; run the same command again to continue"


def test_a_lost_worker_process_ends_the_run_with_one_line(tmp_path: Path, convert: Callable[..., Result]) -> None:
    raw, output = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG}), tmp_path / "out"
    run = started(raw, output, "--decode_timeout", 600, *PROCESSES)
    wait_until_it_hangs(run, output)
    workers = [number for number, command in processes(output).items() if "beam_jobs.local.workers" in command]
    os.kill(workers[0], signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1, err
    assert err.split("\n")[-2] == (
        "error: a worker process was lost (killed, or out of memory); run the same command again to continue"
    )
    assert not running(output)

    assert convert(raw, output, *FLAGS).code == 0  # with the real decoder, to which nothing is wrong with the image
    assert manifest_of(output)["inputs"]["written"] == 40


def test_an_error_of_a_supervised_run_is_reported_in_one_line(tmp_path: Path) -> None:
    run = started(tmp_path / "absent", tmp_path / "out")
    out, err = run.communicate(timeout=240)
    assert (run.returncode, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
