"""The predictions of a model for a split, batch by batch, and what they say of an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from schemas import prediction
from training.reading.array_batches import identified_batches, steps
from training.reading.records import Split, naming_damaged_shards
from training.runs.run_folder import RunConfig
from training.shifts.corruptions import corrupt_in_turn

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
            yield Scored(chunk.images, chunk.labels, ids, probabilities_of(model, chunk.images), chunk.groups)


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


def predict_corrupted(
    model: keras.Model, images: npt.NDArray[np.uint8], at: int, examples: int
) -> Iterator[npt.NDArray[np.float64]]:
    """The probabilities, as probabilities_of gives them, of corrupted copies of a batch that begins at example `at` of a
    split with `examples`: of one copy, or of as many as it takes to have CORRUPTED in all. Corruptions take turns, so
    that each is as frequent as the others."""
    for number in range(-(-CORRUPTED // examples)):
        yield probabilities_of(model, corrupt_in_turn(images, at + _NEXT_ROUND * number))


def prediction_of(probabilities: Sequence[float], run: RunConfig) -> dict[str, Any]:
    """What the model of a run says of one image, for JSON (schemas/prediction.py)."""
    return prediction.prediction_of(probabilities, run.classes, run.label_kind, run.thresholds)


def probabilities_of(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The output of the model, float64 [batch, outputs], for images uint8 [batch, height, width, channels]."""
    return np.asarray(model.predict_on_batch(images), dtype=np.float64)
