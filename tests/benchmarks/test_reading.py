"""The benchmark of reading compares what it says, and reads the same images in every way."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.readers.figures import BUCKET, DISK, LIMIT, MEMORY, STREAMED, TUTORIAL, table
from benchmarks.readers.way import Contents
from tests.conftest import ROOT


def checksum(examples: int) -> str:
    """The checksum of the images that the benchmark makes, in any order: their pixels and their labels."""
    random = np.random.default_rng(0)
    total = 0
    for number in range(examples):
        pixels = random.integers(0, 256, (64, 64), dtype=np.uint8).tobytes()
        total += int.from_bytes(hashlib.blake2b(pixels + bytes([number % 2]), digest_size=8).digest(), "big")
    return f"{total % (1 << 64):016x}"


def test_all_ways_read_the_same_images_from_the_disk_and_from_a_bucket(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.reading", "--small", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "reading.json").read_text())
    results = measured["results"]
    ours = {MEMORY, STREAMED, "radrecords, streamed, older data set"}
    places = {place: {result["way"] for result in results if result["place"] == place} for place in (DISK, BUCKET)}
    cached = {"radrecords, cached on disk"}
    assert places[BUCKET] >= {*ours, *cached, LIMIT, TUTORIAL}
    assert places[DISK] >= {*places[BUCKET] - cached, "Keras image_dataset_from_directory, PNG"}
    assert {result["contents"] for result in results} == {checksum(1000)}
    assert {result["way"] for result in results if not result["shuffled"]} == {LIMIT}
    assert all(
        len(result[epoch]) == 1 and result[epoch][0] > 0 for result in results for epoch in ("epoch_1", "epoch_2")
    )
    assert measured["versions"].keys() >= {"python", "numpy", "keras", "radrecords"}
    assert (tmp_path / "reading.md").read_text().strip() in done.stdout
    with Image.open(tmp_path / "reading.png") as plot:
        assert plot.width > 500


def test_the_checksum_of_contents_depends_on_pixels_and_labels_and_not_on_the_order() -> None:
    def any_order(images: Any, labels: Any) -> str:
        contents = Contents()
        contents.add(np.array(images, np.uint8), np.array(labels))
        found: str = contents.as_json()["any_order"]
        return found

    same = any_order([[1, 2], [3, 4]], [0, 1])
    assert any_order([[3, 4], [1, 2]], [1, 0]) == same
    others = [any_order([[1, 2], [3, 4]], [1, 0]), any_order([[1, 2], [4, 3]], [0, 1]), any_order([[1, 2]], [0])]
    assert same not in others
    with pytest.raises(ValueError, match="float64"):
        Contents().add(np.zeros((1, 2)), np.zeros(1))


def test_the_table_gives_medians_of_speeds_and_of_ratios_in_a_round() -> None:
    def result(way: str, *speeds: float) -> dict[str, Any]:
        return {"way": way, "place": DISK, "batch": 64, "epoch_1": speeds, "epoch_2": [2 * one for one in speeds]}

    measured = {
        "machine": {"cpu": "a CPU", "cores": 2, "system": "Linux", "load_before": 0.1},
        "data": {"examples": 1000, "shape": [64, 64, 1], "shards": 4},
        "versions": {"python": "3.11"},
        "results": [
            result(STREAMED, 900, 2000, 1000),
            result(MEMORY, 4000, 4000, 4000),
            result(LIMIT, 1000, 1000, 4000),
            result(TUTORIAL, 100, 100, 100),
            result("slow", 10, 10, 10),
            result("fast", 200, 200, 400),
        ],
    }
    text = table(measured)
    assert f"| {STREAMED} | 1,000 (0.90) | 2,000 (0.90) |" in text
    assert f"| {LIMIT} | 1,000 (1.00) | 2,000 (1.00) |" in text
    assert f"| batch 64, epoch 1: {STREAMED} / fast | 4 | 4.50 |" in text
    assert f"| batch 64, epoch 2: {MEMORY} / {LIMIT} | 1.8 | 4.00 |" in text
    assert f"| batch 64, epoch 2: {MEMORY} / {TUTORIAL} | 8 | 40.00 |" in text
