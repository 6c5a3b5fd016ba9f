"""Launching on another engine, as far as no engine is needed: refusals, the workers' command, lines about progress."""

import io
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.engines import worker
from beam_jobs.engines.progress import Progress, finished_shards
from beam_jobs.passing import status
from schemas.errors import JobFailed, run_command
from tests.conftest import ROOT, Result, labelled, write_images

Convert = Callable[..., Result]


@pytest.mark.parametrize("engine", [(), ("--runner=FlinkRunner", "--flink_master=[local]"), ("--runner=PrismRunner",)])
def test_a_job_that_ends_with_its_launcher_cannot_be_detached(
    tmp_path: Path, convert: Convert, engine: tuple[str, ...]
) -> None:
    result = convert(write_images(tmp_path / "raw", labelled(2)), tmp_path / "out", "--detach", *engine)
    assert result.code == 2
    assert "--detach needs a Flink cluster" in result.error


@pytest.mark.parametrize("master", ["localhost:{}", "http://localhost:{}/"])
def test_an_address_without_flink_is_refused(tmp_path: Path, convert: Convert, master: str) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    with socket.socket() as silent:  # bound, but nobody listens
        silent.bind(("localhost", 0))
        port = silent.getsockname()[1]
        result = convert(raw, tmp_path / "out", "--runner=FlinkRunner", f"--flink_master={master.format(port)}")
    assert result.code == 2
    assert f"--flink_master localhost:{port}: no Flink answers there (" in result.error
    assert not (tmp_path / "out").exists()


def test_the_workers_command_says_what_it_misses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(worker.work, []) == 2
    assert "--id, --provision_endpoint" in capsys.readouterr().err
    done = subprocess.run(
        [sys.executable, "-m", worker.__name__, "--id=1", "--provision_endpoint=localhost:9", "--artifact_endpoint=x"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the engine at localhost:9 does not say what to do: UNAVAILABLE\n"


def test_progress_says_what_is_planned_and_how_many_shards_are_finished(tmp_path: Path) -> None:
    said = io.StringIO()
    progress = Progress(str(tmp_path), str(tmp_path / "status"), said)
    progress.look()
    assert said.getvalue() == ""
    plan = {"counts": {"train": {"A": 900, "B": 900}, "test": {"A": 200}}, "shards": {"train": 3, "test": 1}}
    status.write_plan(str(tmp_path / "status"), plan)
    progress.look()
    for name in ("cxr-train.tfrecord-00000-of-00003", "cxr-test.tfrecord-00000-of-00001"):
        (tmp_path / f"{name}.0123456789abcdef.json").touch()
        (tmp_path / f"{name}.fedcba9876543210").touch()
    progress.look()
    assert said.getvalue().splitlines() == [
        "planned: 2,000 images in 4 shards",
        "finished: 2 of 4 shards (about 1,000 of 2,000 images)",
    ]


def test_shards_of_scores_are_counted_too(tmp_path: Path) -> None:
    for name in ("scores-00000-of-00003.jsonl", "scores-00002-of-00003.parquet"):
        (tmp_path / f"{name}.0123456789abcdef.json").touch()
        (tmp_path / f"{name}.fedcba9876543210").touch()
    assert finished_shards(str(tmp_path)) == {"scores-00000-of-00003.jsonl", "scores-00002-of-00003.parquet"}


def test_an_error_that_a_worker_recorded_is_the_error_of_the_job(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="of a worker"), status.failures(str(tmp_path)):
        raise JobFailed("of a worker")
    assert str(status.read_failure(str(tmp_path))) == "of a worker"
