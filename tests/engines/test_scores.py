"""Predictions on Flink give the bytes of a local run."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="prediction needs it")

from tests.beam_jobs.scoring.tiny_exports import write_export
from tests.conftest import files_of
from tests.engines import downloads

pytestmark = pytest.mark.flink


def test_scores_are_those_of_a_local_run(sample: Path, tmp_path: Path) -> None:
    jar = downloads.job_server()
    model = write_export(tmp_path / "model.onnx")
    flink = ("--runner=FlinkRunner", "--flink_master=[local]", f"--flink_job_server_jar={jar}")
    for output, flags in (("here", ()), ("flink", flink)):
        command = [sys.executable, "-m", "beam_jobs.predict", "--model", str(model), "--input", str(sample)]
        command += ["--output", str(tmp_path / output), "--shards", "3", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "flink") == files_of(tmp_path / "here")
