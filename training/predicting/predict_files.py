"""Predicts image files with a run and prints a line for each."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from training.assessment.predictions import prediction_of, probabilities_of
from training.config import CSV, PredictConfig
from training.decisions.calibration import calibrated
from training.predicting import output
from training.predicting.adaptation import Adaptation, adapted, check_adaptable
from training.predicting.decoded import Tally, decoded_batches
from training.predicting.scope import LIMIT, Scope
from training.predicting.scope_file import read_scope
from training.runs.run_bucket import working_copy
from training.runs.run_folder import MODEL, SCOPE, WEIGHTS, RunConfig, load_run
from training.runs.weights_file import sha256_of

_IDENTITY_DIGITS = 12
_CORRECTED = "corrected_probability"  # with --adapt_prior only
COLUMNS = ("path", "probability", "class", "calibrated_probability", _CORRECTED, "out_of_scope", "scope_score", "run")


class Loaded(NamedTuple):
    """A run: its model, config, scope, if it has one, and identity (the first digits of the SHA-256 of its weights)."""

    model: keras.Model
    config: RunConfig
    scope: Scope | None
    identity: str

    def scores(self, images: npt.NDArray[np.uint8]) -> list[float | None]:
        """How unlike the training images each image is; None without a scope."""
        return [None] * len(images) if self.scope is None else list(map(float, self.scope.scores(images)))


def predict_files(config: PredictConfig) -> None:
    """Prints a line for each image: what the model says, whether the image is out of its scope, and which run it is.

    An image that cannot be read gets a line on stderr instead, and the others continue. JobFailed is raised at the end then.
    UsageError is raised if the run cannot be read, or does not fit `--adapt_prior`.
    """
    with working_copy(config.run, (*MODEL, SCOPE)) as copy:
        model, run = load_run(copy.folder, config.recipe)
        loaded = Loaded(model, run, read_scope(copy.folder), sha256_of(Path(copy.folder, WEIGHTS))[:_IDENTITY_DIGITS])
    if config.adapt_prior:
        check_adaptable(config.run, run)
    if loaded.scope is None:
        print(
            f"warning: run {config.run} has no {SCOPE}, so no image is found out of scope; "
            "add it with python -m training.train --resume",
            file=sys.stderr,
        )
    adaptation = None
    if config.adapt_prior:
        adaptation = adapted(config.adapt_prior, _target(config.adapt_prior, loaded), run)
    columns = [name for name in COLUMNS if adaptation or name != _CORRECTED]
    if config.format == CSV:
        output.write(output.header(columns))
    tally = Tally()
    for paths, images in decoded_batches(config.images, run.image, tally):
        records = _records(paths, images, loaded, adaptation)
        output.write("".join(output.line(record, columns, config.format) for record in records))
    tally.check()


def _target(folder: str, loaded: Loaded) -> Iterator[npt.NDArray[np.float64]]:
    """The probabilities of the images of a folder that are not out of scope, [images, outputs of the model]."""
    for _, images in decoded_batches([folder], loaded.config.image, Tally()):
        inside = [score is None or score <= LIMIT for score in loaded.scores(images)]
        yield probabilities_of(loaded.model, images)[inside]


def _records(
    paths: Sequence[str], images: npt.NDArray[np.uint8], loaded: Loaded, adaptation: Adaptation | None
) -> Iterator[dict[str, Any]]:
    """What JSON says of each image."""
    run = loaded.config
    probabilities = probabilities_of(loaded.model, images)
    # Thresholds of the run do not apply to calibrated probabilities, so these decide no class.
    forms = [("", probabilities, run), ("calibrated_", calibrated(probabilities, run), None)]
    if adaptation:
        forms.append(("corrected_", adaptation.correct(probabilities), adaptation.run))
    for at, (path, score) in enumerate(zip(paths, loaded.scores(images), strict=True)):
        record: dict[str, Any] = {"path": path}
        for prefix, every, deciding in forms:
            for name, value in prediction_of(every[at].tolist(), deciding or run).items():
                if name.startswith("probabilit"):
                    record[f"{prefix}{name}"] = value
                elif deciding:
                    record[name] = value
        out = None if score is None else score > LIMIT
        yield {**record, "out_of_scope": out, "scope_score": score, "run": loaded.identity}
