"""Checks runs and exports without executing anything of them."""

from pathlib import Path

from schemas.errors import UsageError
from training.config import VerifyConfig
from training.exporting.reading import read_export
from training.runs.run_bucket import working_copy
from training.runs.run_folder import CONFIG, MODEL, checked_weights, read_config
from training.runs.weights_file import sha256_of


def verify(config: VerifyConfig) -> None:
    """Prints a line for each run and export: what it is, and the SHA-256 of its weights. Raises UsageError for the first one
    that is damaged, was changed, or is neither."""
    for path in config.paths:
        print(f"{path}: {_export(path) if _is_export(path) else _run(path)}")


def _is_export(path: str) -> bool:
    return "://" not in path and not Path(path, CONFIG).is_file()


def _export(path: str) -> str:
    metadata = read_export(path)
    recipe, sha256 = metadata["run"]["recipe"]["name"], metadata["run"]["weights_sha256"]
    return f"export of a run of {recipe}, as it was written; SHA-256 of the weights: {sha256}"


def _run(path: str) -> str:
    with working_copy(path, MODEL) as copy:
        run = read_config(copy.folder)
        if run.threshold is None:
            raise UsageError(f"run {copy.folder} is not finished; finish it with python -m training.train --resume")
        weights = checked_weights(copy.folder, run)
        known = "as training left it" if run.weights_sha256 else "of a release that noted no SHA-256"
        return f"run of {run.recipe.name}, {known}; SHA-256 of the weights: {sha256_of(weights)}"
