"""The benchmark of training compares what it says: the same batches, whole processes, and memory by the size of a set."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.trainers.data import write_dataset
from benchmarks.trainers.figures import (
    BUCKET,
    COMPILE,
    DISK,
    FIRST_BATCH,
    HALF,
    IMPORTS,
    KERAS,
    MANIFEST,
    MEMORY,
    OURS,
    SCRIPT,
    WHOLE,
    table,
    targets,
)
from schemas.example import decode_example, read_records
from tests.conftest import ROOT
from training.loading import ONEDNN


def test_a_small_run_measures_every_way_on_the_same_batches(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.training", "--small", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "training.json").read_text())
    epochs = {result["way"]: result for result in measured["epochs"]["results"]}
    assert list(epochs) == [KERAS, DISK, MEMORY, BUCKET]
    assert {result["steps"] for result in epochs.values()} == {64 // 16}
    assert len({weights for result in epochs.values() for weights in result["weights"]}) == 1
    assert all(len(result["seconds"]) == 1 and result["seconds"][0] > 0 for result in epochs.values())
    start = {result["way"]: result["runs"] for result in measured["start"]["results"]}
    assert [list(run["parts"]) for run in start[OURS]] == [[IMPORTS, MANIFEST, FIRST_BATCH, COMPILE]]
    assert [list(run["parts"]) for run in start[SCRIPT]] == [[IMPORTS, COMPILE]]
    for run in (*start[OURS], *start[SCRIPT]):
        assert sum(run["parts"].values()) == pytest.approx(run["seconds"])
        assert min(run["parts"].values()) > 0
    (half,), (whole,) = (result["runs"] for result in measured["memory"]["results"])
    assert whole["bytes"] == pytest.approx(2 * half["bytes"], rel=0.05)
    for run in (half, whole):
        assert len(run["peaks"]) == 3
        assert max(size for _, size in run["samples"]) <= 1.01 * max(run["before"], *run["peaks"])
    assert measured["versions"].keys() >= {"python", "tensorflow-cpu", "keras"}
    assert (tmp_path / "training.md").read_text().strip() in done.stdout
    with Image.open(tmp_path / "training.png") as plot:
        assert plot.width > 500


def test_epochs_are_measured_with_tensorflow_as_the_command_sets_it_up() -> None:
    program = f"""
import os, sys
found = []
def seen(event, arguments):
    if event == "import" and arguments[0] in ("keras", "tensorflow"):
        found.append({ONEDNN!r} in os.environ)
sys.addaudithook(seen)
import benchmarks.trainers.epochs
print(bool(found) and all(found))
"""
    environment = {name: value for name, value in os.environ.items() if name != ONEDNN}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.stdout == "True\n", done.stderr


def test_the_table_gives_medians_in_a_round_and_compares_them_with_the_targets() -> None:
    def epoch(way: str, *seconds: float) -> dict[str, Any]:
        return {"way": way, "seconds": seconds}

    def starts(way: str, *seconds: float) -> dict[str, Any]:
        return {"way": way, "runs": [{"seconds": one, "parts": {IMPORTS: one - 1, COMPILE: 1}} for one in seconds]}

    def memory(way: str, size: int, *peaks: int) -> dict[str, Any]:
        runs = [{"bytes": size << 20, "before": 100 << 20, "peaks": [300 << 20, peak << 20]} for peak in peaks]
        return {"way": way, "runs": runs}

    measured = {
        "machine": {"cpu": "a CPU", "cores": 2, "system": "Linux", "load_before": 0.1},
        "versions": {"python": "3.11"},
        "rounds": 3,
        "epochs": {
            "data": {"examples": 1600, "batch": 16},
            # The ratios are 1, 1.1 and 1.2; that of the medians would be 1.
            "results": [
                epoch(KERAS, 1, 2, 3),
                epoch(DISK, 1.2, 2, 3.3),
                epoch(MEMORY, 1, 2, 3),
                epoch(BUCKET, 2, 4, 6),
            ],
        },
        "start": {"results": [starts(OURS, 5, 6, 9), starts(SCRIPT, 4.5, 5.8, 5)]},
        "memory": {
            "data": {"epochs": 2},
            "results": [memory(HALF, 500, 400, 410, 420), memory(WHOLE, 1000, 410, 451, 500)],
        },
    }
    found = {name: value for name, _, value in targets(measured)}
    assert list(found.values()) == pytest.approx([1.1, 1.0, 2.0, 0.5, 451 / 410])
    text = table(measured)
    assert f"| {DISK} | 2.00 | 1.100 |" in text
    assert f"| {SCRIPT} | 4.00 |  |  | 1.00 | 5.00 |" in text
    assert f"| {WHOLE} | 1,000 | 100 | 300 | 451 |" in text


def test_the_data_sets_hold_what_their_manifest_says(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data", {"train": 11, "validation": 4}, side=16, shards=3)
    for split, count in {"train": 11, "validation": 4}.items():
        examples = []
        for shard in manifest.splits[split]:
            with (tmp_path / "data" / shard.file).open("rb") as stream:
                records = [decode_example(record, (16, 16, 1)) for record in read_records(stream)]
            assert len(records) == shard.examples
            assert shard.bytes == shard.examples * (manifest.record_bytes or 0)
            examples += records
        assert len({example.id for example in examples}) == count
        labels = np.array([example.label for example in examples])
        assert tuple(np.bincount(labels)) == manifest.label_counts(split)
        brightness = np.array([example.image.mean() for example in examples])
        assert brightness[labels == 1].min() > brightness[labels == 0].max()
