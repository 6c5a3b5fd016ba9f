"""The benchmark of scale converts what it says, and its simulation is the conversion's own graph."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_jobs.elements import Plan, Reference
from beam_jobs.settings.config import ConvertConfig
from benchmarks.scaling import made_up
from benchmarks.scaling.figures import per_image, spread, table
from schemas.identity import pseudonym
from schemas.shard_name import ShardName
from schemas.source import Source
from tests.conftest import ROOT


@pytest.mark.memory
def test_a_small_run_writes_a_table_and_a_plot(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--images", "300", "--references", "3000", "--rounds", "1"]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "scale.json").read_text())
    assert [run["images"] for run in found["conversions"]] == [100, 300]
    assert all(run["seconds"] > 0 and run["worker_bytes"] > 0 for run in found["conversions"])
    (simulation,) = found["simulations"]
    plan, publish = simulation["plan"], simulation["publish"]
    assert (plan["images"], plan["shards"]) == (publish["images"], publish["shards"])
    assert plan["shuffled_bytes"] > 3000
    bad = [number for number in range(3000) if number % 999 != 2 and is_rejected(number)]
    assert publish["quarantined"] == len(bad)
    assert (tmp_path / "scale.md").read_text().strip() in done.stdout
    with Image.open(tmp_path / "scale.png") as plot:
        assert plot.width > 500


def is_rejected(number: int) -> bool:
    """Whether the simulation rejects this file, by the id that the conversion gives it."""
    path = made_up.file_of(number, "gs://made-up/3000").path
    return int(pseudonym("id", path)[:8], 16) % made_up.QUARANTINED == 0


def test_the_parts_of_the_made_up_archive_hold_every_file_once() -> None:
    root = made_up.place_of(5_001)
    files = [file for part in made_up.list_prefixes(root) for file in made_up.list_part(part, root)]
    assert len(files) == len({file.path for file in files}) == 5_001
    copies = [checksum for checksum, number in Counter(file.checksum for file in files).items() if number > 1]
    assert len(copies) == len(range(2, 5_001, 999))
    for checksum in copies:  # equal contents have equal sizes and labels
        assert len({(file.size, file.path.split("/")[3]) for file in files if file.checksum == checksum}) == 1


def test_a_shard_without_pixels_accounts_for_its_inputs(tmp_path: Path) -> None:
    root = made_up.place_of(2_000)
    config = ConvertConfig(root, str(tmp_path / "out"))
    plan = Plan(("NORMAL", "PNEUMONIA"), {}, {"train": 1}, 0, {}, {})
    references = []
    for number in range(2_000):
        file = made_up.file_of(number, root)
        source = Source(file.uri, file.path, ("NORMAL", "PNEUMONIA")[number % 2], "", "g", *file[2:])
        references.append(Reference(source, f"{number:08x}{0:024}", "g" * 32, "train"))
    (tmp_path / "work").mkdir()
    result = made_up.shard_without_pixels(
        ShardName("cxr", "train", 0, 1), references, plan, config, str(tmp_path / "work")
    )
    assert (result.shard.examples, len(result.quarantined)) == (1_990, 10)
    assert result.shard.label_counts == (990, 1_000)
    (shard,) = (tmp_path / "work").iterdir()
    assert shard.stat().st_size == result.shard.bytes == 1_990 * (result.shard.bytes // 1_990)


def run_of(images: int, seconds: float) -> dict[str, Any]:
    """The measurements of a conversion."""
    return {
        "images": images,
        "rounds": 1,
        "seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "launcher_bytes": 1 << 20,
        "worker_bytes": 200 << 20,
        "waiting_bytes": 3_000 * images,
    }


def simulation_of(images: int) -> dict[str, Any]:
    """The measurements of a simulation that takes 100 µs and 10 bytes an image, beyond 1 s and 100 MiB."""
    plan = {"shards": 7, "plan_seconds": 1.0, "sort_seconds": 2.0, "shuffled_bytes": 400 * images}
    size = (100 << 20) + 10 * images
    both = {"images": images, "peak_bytes": size, "start_bytes": 100 << 20}
    publish = {"shards": 7, "quarantined": 1, "seconds": 1 + images / 1e6, "gathered_bytes": 1}
    return {"plan": {**both, **plan, "cpu_seconds": 1 + images / 1e4}, "publish": {**both, **publish}}


def test_the_table_leaves_out_the_start_and_goes_on_in_straight_lines() -> None:
    found = {
        "machine": {"cpu": "a CPU", "cores": 2, "system": "Linux", "load_before": 0.1},
        "versions": {"python": "3.11"},
        "mode": "in process",
        "conversions": [run_of(100, 2.0), run_of(10_000, 3.0), run_of(100_000, 13.0)],
        "simulations": [simulation_of(1_000_000), simulation_of(2_000_000)],
    }
    assert per_image(found) == {10_000: 100.0, 100_000: 110.0}
    assert round(spread(found), 3) == 1.1
    text = table(found)
    assert "| 100,000 | 1 | 13.0 | 110 | 220 | 1 | 200 | 3,000 |" in text
    assert "| slowest / fastest time an image | 1.15 | 1.10 |" in text
    assert "| GB shuffled | 30.0 | 300.0 |" in text
    assert "| MiB that publishing takes | 95.4 | 953.7 |" in text
    assert "| seconds that publishing takes, on a disk | 11.0 | 101.0 |" in text
    assert "| CPU hours of planning and sorting | 0.3 | 2.8 |" in text
    assert "| requests to list | 10,000 | 100,000 |" in text
