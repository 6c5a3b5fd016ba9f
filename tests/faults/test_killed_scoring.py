"""beam_jobs.predict is killed, or interrupted, when a shard is finished; the same command then goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="prediction needs it")

from schemas.pixels.settings import ImageSettings
from tests.beam_jobs.scoring.tiny_exports import write_export
from tests.conftest import files_of
from tests.faults.launch import PROCESSES, Launch, finish

pytestmark = pytest.mark.faults

SHARDS = 40  # so many that a run does not end before the signal
INTERRUPTED = "interrupted; nothing was published; run the same command again to continue"


def launch(raw: Path, model: Path, output: Path, *flags: str) -> Launch:
    words = [sys.executable, "-m", "beam_jobs.predict", "--model", str(model), "--input", str(raw)]
    log = output.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(
            [*words, "--output", str(output), "--shards", str(SHARDS), *flags],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Launch(process, log)


def finished_shards(output: Path) -> dict[str, int]:
    """When each shard was written that is finished, by its name in the work folder."""
    marks = list(output.glob("_work/r1/scores-*.json"))
    names = {mark.name.partition(".jsonl")[0] for mark in marks}
    return {name: max(path.stat().st_mtime_ns for path in shards_of(output, name)) for name in names}


def shards_of(output: Path, name: str) -> list[Path]:
    """A shard, in the work folder or in place."""
    return [path for path in output.glob(f"**/{name}.jsonl*") if path.suffix != ".json"]


@pytest.mark.parametrize("flags", [(), PROCESSES], ids=["threads", "processes"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_finished_shards_are_kept(flags: tuple[str, ...], number: signal.Signals, raw: Path, tmp_path: Path) -> None:
    model = write_export(tmp_path / "model.onnx", ImageSettings(image_size=64))
    assert finish(launch(raw, model, tmp_path / "undisturbed")).code == 0
    output = tmp_path / "out"
    running = launch(raw, model, output, *flags)
    while not list(output.glob("_work/r1/scores-*.json")):
        assert running.process.poll() is None, running.log.read_text()
        time.sleep(0.002)
    os.kill(running.process.pid, number)
    killed = finish(running)
    assert killed.code == (-signal.SIGKILL if number == signal.SIGKILL else 130), killed.out
    assert number == signal.SIGKILL or INTERRUPTED in killed.out
    assert not (output / "manifest.json").exists()
    kept = finished_shards(output)
    assert kept  # maybe all: workers that have lost their launcher finish what they have begun
    again = finish(launch(raw, model, output, *flags))
    assert again.code == 0, again.out
    for name, written in kept.items():
        (path,) = shards_of(output, name)
        assert path.stat().st_mtime_ns == written
    assert files_of(output) == files_of(tmp_path / "undisturbed")
