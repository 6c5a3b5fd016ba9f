"""The predictions of a model for a split, batch by batch, and for image files."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from schemas.decoders.pool import DecoderPool, cores
from schemas.decoders.process import Answer
from schemas.errors import JobFailed
from schemas.labels import NO_FINDING, SEPARATOR
from schemas.pixels.rejection import Decoded
from schemas.pixels.settings import ImageSettings
from training.config import PredictConfig
from training.reading.array_batches import identified_batches, steps
from training.reading.image_files import complain, image_files, read_image_file
from training.reading.records import Split, naming_damaged_shards
from training.run_bucket import working_copy
from training.run_folder import MODEL, RunConfig, load_run
from training.shifts.corruptions import corrupt_in_turn
from training.task import BINARY, MULTICLASS

BATCH = 256
CORRUPTED = 2000  # images, at least, for an operating point that is chosen on them
_NEXT_ROUND = 5  # corruptions later, so that an image has different ones


@dataclass(frozen=True)
class Scored:
    """One batch: images uint8 [batch, height, width, channels], labels int64 [batch] or [batch, classes], ids,
    probabilities, float64 [batch, outputs of the model] (training/task.py), and groups (patients), bytes [batch]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    ids: list[str]
    probabilities: npt.NDArray[np.float64]
    groups: npt.NDArray[np.bytes_]

    def without_images(self) -> "Scored":
        """The batch in little memory: even a view would keep the images."""
        return replace(self, images=np.empty((0, *self.images.shape[1:]), np.uint8))


class Predictions(NamedTuple):
    """A split: labels int64 [examples] or [examples, classes], probabilities float64 [examples, outputs of the model],
    groups (patients), bytes [examples], and ids."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    groups: npt.NDArray[np.bytes_]
    ids: list[str]


def scored_batches(model: keras.Model, split: Split) -> Iterator[Scored]:
    """Every example of `split` once, in stored order, with a progress bar on a terminal. Raises JobFailed for damaged
    shards."""
    with naming_damaged_shards([split]):
        found = identified_batches(split, BATCH)
        for chunk in tqdm(found, split.name, steps(split, BATCH), unit="batch", disable=None):
            ids = [id.decode("ascii") for id in chunk.ids]
            yield Scored(chunk.images, chunk.labels, ids, _probabilities(model, chunk.images), chunk.groups)


def predict_split(model: keras.Model, split: Split) -> Predictions:
    """The predictions for every example of `split`, in stored order. Raises JobFailed for damaged shards."""
    return predictions_of([batch.without_images() for batch in scored_batches(model, split)])


def predictions_of(batches: Sequence[Scored]) -> Predictions:
    """The batches as one."""
    return Predictions(
        np.concatenate([batch.labels for batch in batches]),
        np.concatenate([batch.probabilities for batch in batches]),
        np.concatenate([batch.groups for batch in batches]),
        [id for batch in batches for id in batch.ids],
    )


def predict_corrupted(model: keras.Model, split: Split) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels and probabilities, as predict_split gives them, of corrupted copies of the examples: one of each, or as many as
    it takes to have CORRUPTED. Corruptions and severities take turns, so that each is as frequent as the others. Raises
    JobFailed for damaged shards."""
    rounds = -(-CORRUPTED // split.examples)
    labels, found, at = [], [], 0
    with naming_damaged_shards([split]):
        for chunk in identified_batches(split, BATCH):
            for number in range(rounds):
                labels.append(chunk.labels)
                found.append(_probabilities(model, corrupt_in_turn(chunk.images, at + _NEXT_ROUND * number)))
            at += len(chunk.ids)
    return np.concatenate(labels), np.concatenate(found)


def predict_files(config: PredictConfig) -> None:
    """Prints a line for each image: its path, a probability, and the class or the findings at the run's thresholds.

    An image that cannot be read gets a line on stderr instead, and the others continue. JobFailed is raised at the end then.
    """
    with working_copy(config.run, MODEL) as copy:
        model, run = load_run(copy.folder, config.recipe)
    paths = image_files(config.images)
    read = bad = 0
    # The pool closes first, so that an interrupt does not wait for an image that hangs.
    with ThreadPoolExecutor(cores() + 1) as threads, DecoderPool() as pool:
        while group := list(islice(paths, BATCH)):
            answers = threads.map(lambda path: (path, _answer(path, run.image, pool)), group)
            decoded = []
            for path, answer in answers:
                if isinstance(answer, Decoded):
                    decoded.append((path, answer.pixels))
                else:
                    complain(path, answer)
            read, bad = read + len(group), bad + len(group) - len(decoded)
            _print(decoded, model, run, config.json)
    if bad or not read:
        raise JobFailed(f"{bad} of {read} images could not be read" if read else "no image in the given folders")


def _print(
    decoded: Sequence[tuple[str, npt.NDArray[np.uint8]]], model: keras.Model, run: RunConfig, as_json: bool
) -> None:
    if not decoded:
        return
    probabilities = _probabilities(model, np.stack([pixels for _, pixels in decoded]))
    for (path, _), row in zip(decoded, probabilities.tolist(), strict=True):
        prediction = prediction_of(row, run)
        if as_json:
            print(json.dumps({"path": path, **prediction}))
        else:
            name = (
                prediction["class"] if "class" in prediction else SEPARATOR.join(prediction["findings"]) or NO_FINDING
            )
            print(f"{path}\t{prediction.get('probability', max(row)):.6f}\t{name}")


def prediction_of(probabilities: Sequence[float], run: RunConfig) -> dict[str, Any]:
    """What the model says of one image, for JSON: `probability` of the second class, or `probabilities` by class; and the
    `class`, or the `findings` that reach their thresholds."""
    if run.task.kind == BINARY:
        (probability,) = probabilities
        return {"probability": probability, "class": run.classes[int(probability >= run.thresholds[0])]}
    by_class = dict(zip(run.classes, probabilities, strict=True))
    if run.task.kind == MULTICLASS:
        return {"probabilities": by_class, "class": max(by_class, key=lambda name: by_class[name])}
    found = [name for name, least in zip(run.classes, run.thresholds, strict=True) if by_class[name] >= least]
    return {"probabilities": by_class, "findings": found}


def _answer(path: str, settings: ImageSettings, pool: DecoderPool) -> Answer | str:
    """The decoder's answer for a file, or a message that says why it cannot be read."""
    data = read_image_file(path)
    return data if isinstance(data, str) else pool.decode([data], settings)[0]


def _probabilities(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.asarray(model.predict_on_batch(images), dtype=np.float64)
