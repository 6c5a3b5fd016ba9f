"""The exported model of a run: read and checked before a job starts, and put where the workers find it."""

import hashlib
from importlib.util import find_spec
from typing import Any

from beam_jobs.publish.releases import Release
from beam_jobs.scoring.config import ScoringConfig
from beam_jobs.storage import storage
from schemas.errors import JobFailed, UsageError
from schemas.export import ExportedModel, Metadata, read_onnx

NEEDED = ("onnx", "onnxruntime")


def read_export(place: str) -> dict[str, Any]:
    """The fields of ScoringConfig that the export at `place` determines. Executes nothing of it. Raises UsageError if it
    cannot be read or is damaged, or if a library is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"prediction needs {' and '.join(missing)}; in a clone, run: pip install '.[predict]'")
    data = _read(place)
    exported, metadata = read_onnx(data, f"--model {place}")
    digest = hashlib.sha256(data).hexdigest()
    return {
        "model": place,
        "model_sha256": digest,
        "exported": exported,
        "image": exported.image,
        "model_entries": _entries(digest, exported, metadata),
    }


def _entries(digest: str, exported: ExportedModel, metadata: Metadata) -> dict[str, Any]:
    """The manifest's entry about the model."""
    run = metadata["run"]
    return {
        "sha256": digest,
        "weights_sha256": exported.weights_sha256,
        "recipe": run.get("recipe", {}).get("name", ""),
        "data": run.get("data", {}),
        **{
            name: metadata[name]
            for name in ("classes", "label_kind", "operating_point", "calibration", "preprocessing")
        },
    }


def _read(place: str) -> bytes:
    try:
        return storage.read_bytes(place)
    except FileNotFoundError as error:
        raise UsageError(
            f"--model {place} does not exist; make it with python -m training.export --format onnx"
        ) from error
    except OSError as error:
        raise UsageError(
            f"--model {place} cannot be read ({error.strerror or type(error).__name__}); give a file that python -m "
            "training.export --format onnx wrote"
        ) from error


def place_for_workers(config: ScoringConfig, release: Release) -> str:
    """Where workers read the model: where it is, or a copy in the work folder if they may not share this machine's disk."""
    if config.local or storage.is_shared(config.model):
        return config.model
    place = storage.join(release.work, f"model-{config.model_sha256[:16]}.onnx")
    with storage.writing(place):
        storage.write_bytes(place, checked_bytes(config.model, config.model_sha256))
    return place


def checked_bytes(place: str, sha256: str) -> bytes:
    """The content of the model at `place`. Raises JobFailed if it cannot be read or is not the one of this SHA-256."""
    try:
        data = storage.read_bytes(place)
    except OSError as error:
        raise JobFailed(f"the model {place} cannot be read: {error.strerror or type(error).__name__}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise JobFailed(f"the model {place} was replaced or damaged after the job started; run again")
    return data
