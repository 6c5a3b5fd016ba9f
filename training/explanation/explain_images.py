"""Explains what a model says of image files: writes a map over each, and one from random weights to compare it with."""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from schemas.decoders.pool import DecoderPool
from schemas.decoders.process import Answer
from schemas.errors import JobFailed, UsageError
from training.assessment.predictions import prediction_of
from training.config import ACTIVATIONS, GRADCAM, OCCLUSION, ExplainConfig
from training.explanation import layers, methods, pictures, scores
from training.explanation.pictures import Looked
from training.explanation.randomised import look_alike, randomised, rank_correlation
from training.reading.image_files import complain, image_files, read_image_file
from training.runs.run_bucket import working_copy
from training.runs.run_folder import MODEL, WEIGHTS, RunConfig, load_run
from training.runs.weights_file import sha256_of

INDEX = "explanations.json"
FORMAT, FORMAT_VERSION = "radrecords-explanations", 1

Row = dict[str, Any]


class Explainer:
    """One model, and how it is looked into. Raises UsageError if it has no such layer or class."""

    def __init__(self, config: ExplainConfig, run: RunConfig, model: keras.Model) -> None:
        scores.check_target(run.task, config.target)
        if run.recipe.ensemble > 1 and config.method != OCCLUSION:
            raise UsageError(
                f"--method {config.method} looks into one network, and run {config.run} is an ensemble; give one of its "
                f"members as --run ({config.run.rstrip('/')}/members/0, ...), or --method occlusion"
            )
        self._method, self._run, self._model = config.method, run, model
        self._scores = scores.score_model(model)
        self.shown, self.layer = [], None
        if config.method == ACTIVATIONS:
            self.shown = layers.layers_to_show(model, config.layer)
        if config.method != OCCLUSION:
            self.layer = self.shown[0] if self.shown and config.layer else layers.convolution(model, config.layer)

    def probabilities(self, image: methods.Image) -> list[float]:
        """Of each output of the model, for one image."""
        row: list[float] = np.asarray(self._model.predict_on_batch(image[np.newaxis]), np.float64)[0].tolist()
        return row

    def map_of(self, image: methods.Image, target: str) -> methods.Map:
        """The map of one image, for one class."""
        score = partial(scores.score_of, task=self._run.task, target=target)
        if self._method == OCCLUSION:
            return methods.occlusion(self._scores, score, image)
        if self._method == GRADCAM:
            return methods.gradcam(self._scores, score, image, self.layer)
        return methods.activation(self._model, image, self.layer)

    def write_sheets(self, image: methods.Image, folder: Path, name: str) -> list[str]:
        """A sheet of channels for each layer that is shown. Returns the names of the files."""
        given = layers.outputs(self._model, self.shown, image[np.newaxis])
        written = []
        for number, (layer, (channels,)) in enumerate(zip(self.shown, given, strict=True), start=1):
            written.append(f"{name}.{number:03}-{layer.name}.png")
            height, width, count = channels.shape
            pictures.write_sheet(folder / written[-1], channels, f"{layer.name}: {count} of {width}x{height}")
        return written


@dataclass(frozen=True)
class Explainers:
    """Of the run, and of the same network with random weights."""

    trained: Explainer
    random: Explainer


def explain(config: ExplainConfig) -> Row:
    """Writes the maps and INDEX into the output folder, prints a line for each image, and returns the content of INDEX.

    An image that cannot be read gets a line on stderr instead, and the others continue. JobFailed is raised at the end then.
    Raises UsageError if the run cannot be read, has no such layer or class, or the folder cannot be written.
    """
    with working_copy(config.run, MODEL) as copy:
        model, run = load_run(copy.folder, config.recipe)
        identity = {"weights_sha256": sha256_of(Path(copy.folder, WEIGHTS)), "recipe": run.recipe.name}
    both = Explainers(Explainer(config, run, model), Explainer(config, run, randomised(model)))
    layer = both.trained.layer
    index: Row = {"format": FORMAT, "format_version": FORMAT_VERSION, "run": identity, "method": config.method}
    index |= {"layer": layer.name if layer else None, "images": []}
    bad = 0
    try:
        Path(config.output).mkdir(parents=True, exist_ok=True)
        with DecoderPool(1) as pool:
            for path in image_files(config.images):
                looked = _look(path, run, pool)
                if isinstance(looked, Looked):
                    name = _free_name(Path(path).stem, index["images"])
                    index["images"].append({"image": path, "name": name, **_explained(config, run, both, looked, name)})
                    _tell(index["images"][-1])
                else:
                    complain(path, looked)
                    bad += 1
        Path(config.output, INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to --output {config.output}: {error.strerror}") from error
    if bad or not index["images"]:
        read = bad + len(index["images"])
        raise JobFailed(f"{bad} of {read} images could not be read" if read else "no image in the given folders")
    return index


def _look(path: str, run: RunConfig, pool: DecoderPool) -> Looked | Answer | str:
    data = read_image_file(path)
    return data if isinstance(data, str) else pictures.look(data, run.image, pool)


def _explained(config: ExplainConfig, run: RunConfig, both: Explainers, looked: Looked, name: str) -> Row:
    """Writes the pictures of one image. Returns what INDEX says of it."""
    folder, image = Path(config.output), looked.input
    probabilities = both.trained.probabilities(image)
    target = scores.target_of(run.task, probabilities, config.target)
    trained, random = both.trained.map_of(image, target), both.random.map_of(image, target)
    files = {"map": f"{name}.{config.method}.png", "map_of_random_weights": f"{name}.{config.method}.random.png"}
    for file, values in zip(files.values(), (trained, random), strict=True):
        pictures.write_overlay(folder / file, values, looked)
    seen = pictures.content(trained, looked)
    correlation = rank_correlation(seen, pictures.content(random, looked))
    height, width = looked.picture.shape
    row: Row = {"width": width, "height": height, **prediction_of(probabilities, run), **files}
    if config.method == ACTIVATIONS:
        row["sheets"] = both.trained.write_sheets(image, folder, f"{name}.{config.method}")
    else:
        row["target"] = target
    return row | {
        "greatest": float(np.abs(seen).max()),
        "rank_correlation": correlation,
        "looks_alike": look_alike(correlation),
    }


def _free_name(stem: str, rows: list[Row]) -> str:
    """A name that no other image of this command has, for its pictures."""
    taken, name, number = {row["name"] for row in rows}, stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def _tell(row: Row) -> None:
    correlation = row["rank_correlation"]
    shown = "undefined" if correlation is None else f"{correlation:.2f}"
    print(f"{row['image']}\t{row.get('target', '')}\t{row['map']}\trank correlation with random weights {shown}")
    if row["looks_alike"]:
        print(
            f"warning: {row['image']}: the map looks like the one of random weights, so it may show the image and not what "
            "the model has learned",
            file=sys.stderr,
        )
    if correlation is None:
        print(
            f"warning: {row['image']}: the map, or the one of random weights, is the same everywhere", file=sys.stderr
        )
