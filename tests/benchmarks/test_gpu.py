"""The benchmark for GPUs runs on a CPU, without TensorFlow (make test-jax), and its table states shares of the limit."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import table
from tests.conftest import ROOT

WAYS = ["none", "memory", "device", "one resident batch"]


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    settings = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, env=settings)


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed: make test-jax")
def test_a_small_run_trains_every_way_with_the_same_steps(tmp_path: Path) -> None:
    done = run("--small", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "device: cpu" in done.stderr
    measured = json.loads((tmp_path / "gpu-cpu.json").read_text())
    found = [(result["model"], result["way"]) for result in measured["results"]]
    assert found == [(model, way) for model in ("model3", "small_resnet") for way in WAYS]
    for result in measured["results"]:
        assert result["steps"] * result["batch"] == measured["data"]["examples"]
        assert len(result["images_per_second"]) == measured["epochs"]
        assert min(result["images_per_second"]) > 0
    assert (tmp_path / "gpu-cpu.md").read_text().strip() in done.stdout


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed: make test-jax")
def test_without_a_gpu_it_measures_nothing(tmp_path: Path) -> None:
    done = run("--output", str(tmp_path))
    assert done.returncode == 1
    assert "JAX sees no GPU" in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_backend_is_refused() -> None:
    done = run("--small", KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert done.stderr == "error: KERAS_BACKEND=tensorflow: this benchmark is for jax\n"


def test_the_table_gives_medians_and_shares_of_the_limit() -> None:
    def result(way: str, *speeds: float) -> dict[str, Any]:
        return {"model": "model3", "batch": 256, "way": way, "steps": 4, "images_per_second": speeds}

    results = [result("none", 70, 80, 99), result("memory", 85, 85, 85), result("device", 90, 97, 98)]
    measured = {
        "device": {"name": "a GPU", "memory": 1 << 30, "host_cores": 8},
        "versions": {"jax": "0.6"},
        "data": {"examples": 1024, "shape": [64, 64, 1], "shards": 16},
        "epochs": 3,
        "results": [*results, result("one resident batch", 90, 100, 110)],
    }
    text = table(measured)
    assert "| model3 | 256 | 80 (0.80) | 85 (0.85) | 97 (0.97) | 100 (1.00) |" in text
    assert "| model3, batches of 256, cache device | 0.95 | 0.97 |" in text
    assert "| model3, batches of 256, cache none | 0.8 | 0.80 |" in text
