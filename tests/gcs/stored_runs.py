"""Runs in the local bucket, read without the code that wrote them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.gcs.bucket import Bucket
from training.runs.run_folder import load_run, read_history


def pointer_of(bucket: Bucket, run: str = "runs/x") -> Any:
    """run.json; {} if there is none."""
    name = f"{run}/run.json"
    return json.loads(bucket.read(name)) if name in bucket.names() else {"files": {}}


def objects_of(bucket: Bucket, run: str = "runs/x") -> list[str]:
    """The objects that run.json names, and itself."""
    return sorted(
        [f"{run}/run.json", *(f"{run}/{each['object']}" for each in pointer_of(bucket, run)["files"].values())]
    )


def downloaded(bucket: Bucket, folder: Path, run: str = "runs/x") -> Path:
    """The run as a local folder."""
    for name, each in pointer_of(bucket, run)["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bucket.read(f"{run}/{each['object']}"))
    return folder


def assert_same_run(first: Path, second: Path) -> None:
    """Bit by bit."""
    assert read_history(str(first)) == read_history(str(second))
    (model, config), (other, other_config) = load_run(str(first)), load_run(str(second))
    assert (config.best, config.threshold) == (other_config.best, other_config.threshold)
    for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
