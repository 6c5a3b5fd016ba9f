"""What an export says of itself (schemas/export.py): what its user must know and the network does not say."""

import hashlib
from dataclasses import asdict
from pathlib import Path

from schemas.export import FORMAT, FORMAT_VERSION, INPUT, PROBABILITIES, PROBABILITY, Metadata
from training.runs.run_folder import RunConfig
from training.task import BINARY

FILE = "radrecords.json"  # in a SavedModel and behind a TensorFlow Lite model


def output_of(run: RunConfig) -> str:
    """The name of the output: PROBABILITY of the second of two classes, or PROBABILITIES of all classes or findings."""
    return PROBABILITY if run.task.kind == BINARY else PROBABILITIES


def metadata_of(run: RunConfig, weights_sha256: str) -> Metadata:
    """The metadata of a finished run's export, without `content`, which its writer adds.

    run: its identity, above all the SHA-256 of its weights file. input, output: names, dtypes and shapes; the batch is
    None. preprocessing: how a file becomes an input (schemas/pixels/settings.py). operating_point: the `threshold` of
    config.json. calibration: that of config.json, or None.
    """
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run": {
            "weights_sha256": weights_sha256,
            "recipe": {key: value for key, value in run.recipe.to_json().items() if key != "source"},  # a path
            "seed": run.seed,
            "data": dict(run.data),
            "best": dict(run.best or {}),
            "versions": dict(run.versions),
        },
        "input": {"name": INPUT, "dtype": "uint8", "shape": [None, *run.image.shape]},
        "output": {"name": output_of(run), "dtype": "float32", "shape": [None, run.task.outputs]},
        "classes": list(run.classes),
        "label_kind": run.label_kind,
        "preprocessing": asdict(run.image),
        "operating_point": dict(run.threshold or {}),
        "calibration": getattr(run, "calibration", None),
    }


def file_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below `folder` except FILE, by its path there: the `content` of an export that is a
    folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
