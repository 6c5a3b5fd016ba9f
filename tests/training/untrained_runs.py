"""Finished runs that were never trained: networks with random weights, in a moment."""

from pathlib import Path

import keras
import numpy as np

from schemas.labels import CLASS
from schemas.pixels.settings import ImageSettings
from training.models.networks import build_model
from training.models.recipes import Recipe
from training.runs.run_folder import WEIGHTS, RunConfig, write_config
from training.runs.weights_file import sha256_of
from training.task import BINARY


def write_run(
    folder: Path,
    recipe: Recipe,
    image: ImageSettings,
    classes: tuple[str, ...] = ("NORMAL", "PNEUMONIA"),
    label_kind: str = CLASS,
) -> RunConfig:
    """Writes a run whose weights are random, also the means and variances of batch normalisation."""
    run = RunConfig(
        recipe=recipe,
        seed=0,
        mixed_precision=False,
        classes=classes,
        image=image,
        data={"name": "toy", "version": "1.0.0", "revision": 1},
        versions={},
        best={"epoch": 1},
        label_kind=label_kind,
    )
    one = run.task.kind == BINARY
    threshold = {"value": 0.4} if one else {"values": [0.4] * len(classes)}
    keras.utils.set_random_seed(5)
    model = build_model(recipe, image.shape, run.task)
    random = np.random.default_rng(5)
    for variable in model.non_trainable_variables:
        if variable.name in ("moving_mean", "moving_variance"):
            middle = 1.0 if variable.name == "moving_variance" else 0.0
            variable.assign(middle + random.uniform(-0.1, 0.1, variable.shape))
    folder.mkdir(parents=True)
    model.save_weights(folder / WEIGHTS)
    run = RunConfig(**{**vars(run), "threshold": threshold, "weights_sha256": sha256_of(folder / WEIGHTS)})
    write_config(str(folder), run)
    return run
