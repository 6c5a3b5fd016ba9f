"""Whole local runs, started as a user starts them, that lose a decoder or another process or are interrupted."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.beam_jobs.standin_words import EXIT, HANG, SEGFAULT, stand_in_path
from tests.conftest import ROOT, files_of, labelled, manifest_of, write_images

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are supervised on Linux only")
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
BAD = {"NORMAL/3.jpeg": EXIT, "PNEUMONIA/5.jpeg": SEGFAULT, "PNEUMONIA/7.jpeg": HANG}


def started(raw: Path, output: Path, *flags: object, temporary: Path | None = None) -> subprocess.Popen[str]:
    temporary = temporary or output.parent / f"tmp of {output.name}"
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.convert", "--input", str(raw), "--output", str(output), "--shards", "3"]
        + ["--max_reject_fraction", "0.2", *map(str, flags)],
        env={**os.environ, "PYTHONPATH": stand_in_path(), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes(output: Path) -> dict[int, str]:
    """The processes of the run that was `started` for this output, found by the TMPDIR that they inherit. Decoders inherit
    no TMPDIR and are not included."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={output.parent}/tmp of {output.name}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def running(output: Path) -> list[str]:
    return list(processes(output).values())


def decoders() -> set[int]:
    """The decoding processes that run the code of this checkout. Another checkout may be in use on the same machine."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = os.fsencode(ROOT) in re.split(rb"[\0:=]", (folder / "environ").read_bytes())
            if ours and b"schemas.decoders.child" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def wait_until_it_decodes(run: subprocess.Popen[str], output: Path) -> None:
    """Waits until a shard has been started, and a second longer, so that the hanging image is reached."""
    while not list(output.glob("_work/r1/.*.tmp")):
        assert run.poll() is None, run.communicate()
        sleep(0.05)
    sleep(1)


def marked(folder: Path, bad: dict[str, bytes]) -> Path:
    raw = write_images(folder, labelled(20, suffix=".jpeg"))
    for name, word in bad.items():
        (raw / name).write_bytes((raw / name).read_bytes() + word)
    return raw


@pytest.mark.parametrize("beam", [(), PROCESSES], ids=["threads", "processes"])
def test_a_run_survives_decoders_that_crash_or_hang(tmp_path: Path, beam: tuple[str, ...]) -> None:
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
    calm = started(raw, tmp_path / "calm")
    assert calm.wait(timeout=240) == 0, calm.communicate()
    calm.communicate()
    shards = [{n: c for n, c in files_of(tmp_path / o).items() if ".tfrecord-" in n} for o in ("out", "calm")]
    assert shards[0] == shards[1]


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (signal.SIGTERM, 130, ["interrupted; nothing was published; run the same command again to continue"]),
        (signal.SIGKILL, -9, []),
    ],
)
def test_a_signal_that_ends_the_launcher_ends_the_run(tmp_path: Path, number: int, code: int, says: list[str]) -> None:
    raw = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG})
    before = decoders()
    run = started(raw, tmp_path / "out", "--decode_timeout", 600)
    wait_until_it_decodes(run, tmp_path / "out")
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
    sleep(1)
    assert not decoders() - before

    # The same command with a shorter time limit continues the run and finishes it.
    again = started(raw, tmp_path / "out", "--decode_timeout", 1)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert manifest_of(tmp_path / "out")["quarantined"] == {"decoder_timeout": 1}
    assert not left_in(tmp_path / "tmp of out")


def left_in(temporary: Path) -> list[Path]:
    return list(temporary.glob("radrecords-*"))


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
    raw = write_images(tmp_path / "raw", labelled(300), side=400)
    run = started(raw, tmp_path / "out")
    while not list((tmp_path / "tmp of out").glob("radrecords-*/radrecords-*/done")):
        assert run.poll() is None, run.communicate()
        sleep(0.01)
    (child,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1, err
    assert err.split("\n")[-2] == "error: the process was lost, with signal 9; run the same command again to continue"


def test_a_lost_worker_process_ends_the_run_with_one_line(tmp_path: Path) -> None:
    raw, output = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG}), tmp_path / "out"
    run = started(raw, output, "--decode_timeout", 600, *PROCESSES)
    wait_until_it_decodes(run, output)
    workers = [number for number, command in processes(output).items() if "beam_jobs.local.workers" in command]
    os.kill(workers[0], signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1, err
    assert err.split("\n")[-2] == (
        "error: a worker process was lost (killed, or out of memory); run the same command again to continue"
    )
    assert not running(output)

    again = started(raw, output, "--decode_timeout", 1)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert manifest_of(output)["quarantined"] == {"decoder_timeout": 1}


@pytest.mark.parametrize("everyone", [True, False], ids=["whole group", "launcher only"])
@pytest.mark.parametrize("beam", [(), PROCESSES], ids=["threads", "processes"])
def test_an_interrupt_prints_one_line_and_ends_every_process(
    tmp_path: Path, beam: tuple[str, ...], everyone: bool
) -> None:
    raw, output = marked(tmp_path / "raw", {"NORMAL/3.jpeg": HANG}), tmp_path / "out"
    before = decoders()
    run = started(raw, output, "--decode_timeout", 600, *beam)
    wait_until_it_decodes(run, output)
    assert decoders() - before
    begun = monotonic()
    os.killpg(run.pid, signal.SIGINT) if everyone else run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert not running(output)
    assert not decoders() - before
    assert monotonic() - begun < 10
    assert (run.returncode, out) == (130, "")
    lines = [line for line in err.splitlines() if line.strip() and "images/s" not in line]
    assert lines == ["interrupted; nothing was published; run the same command again to continue"]
    assert not [path for path in (tmp_path / "tmp of out").iterdir() if path.name.startswith("radrecords-")]

    again = started(raw, output, "--decode_timeout", 1)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert manifest_of(output)["quarantined"] == {"decoder_timeout": 1}
    assert not (output / "_work").exists()


def cpu_seconds(process: int) -> float:
    """The CPU time that a process has used so far."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def test_an_interrupt_while_python_loads_prints_one_line(tmp_path: Path) -> None:
    raw = write_images(tmp_path / "raw", labelled(20))
    for seconds in (0.08, 0.1, 0.12, 0.14):
        run = subprocess.Popen(
            [sys.executable, "-m", "beam_jobs.convert", "--input", raw, "--output", tmp_path / "out", "--overwrite"],
            stderr=subprocess.PIPE,
            text=True,
        )
        while cpu_seconds(run.pid) < seconds:  # CPU time, not wall time: a busy machine starts Python late
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
            ["beam_jobs.convert", "--input", "gs://b/in", "--output", "gs://b/out", "--runner=FlinkRunner"],
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
    while not any((tmp_path / "tmp of out").iterdir()):
        assert run.poll() is None, run.communicate()
        sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out, err.split()) == (130, "", ["interrupted"])
    assert not running(tmp_path / "out")
    assert not list((tmp_path / "tmp of out").iterdir())


def test_an_error_of_a_supervised_run_is_reported_in_one_line(tmp_path: Path) -> None:
    run = started(tmp_path / "absent", tmp_path / "out")
    out, err = run.communicate(timeout=240)
    assert (run.returncode, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
