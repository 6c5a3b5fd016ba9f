"""What a model says: about a split, batch after batch, and about image files."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tqdm import tqdm

from schemas.errors import JobFailed
from schemas.image import ImageRejected, ImageSettings, ImageSkipped, decode
from training.config import PredictConfig
from training.input_pipeline import identified_batches, steps
from training.records import Split, naming_damaged_shards
from training.run_folder import load_run

BATCH = 256


@dataclass(frozen=True)
class Scored:
    """One batch: images uint8 [batch, height, width, channels], labels int64 [batch], ids, and the probability of the
    second class, float64 [batch]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    ids: list[str]
    probabilities: npt.NDArray[np.float64]


def scored_batches(model: keras.Model, split: Split) -> Iterator[Scored]:
    """Every example of `split` once, as stored; a progress bar on a terminal. Raises JobFailed for damaged shards."""
    with naming_damaged_shards([split]):
        found = identified_batches(split, BATCH).as_numpy_iterator()
        for images, labels, ids in tqdm(found, split.name, steps(split, BATCH), unit="batch", disable=None):
            yield Scored(images, labels, [id.decode("ascii") for id in ids], _probabilities(model, images))


def predict_split(model: keras.Model, split: Split) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels and probabilities of the second class, each [examples]."""
    scored = [(batch.labels, batch.probabilities) for batch in scored_batches(model, split)]
    labels, probabilities = (np.concatenate(column) for column in zip(*scored, strict=True))
    return labels, probabilities


def predict_files(config: PredictConfig) -> None:
    """Prints a line for each image: path, probability of the second class, and the class at the run's threshold.

    An image that cannot be read is a line on stderr instead, and the others go on. Raises JobFailed at the end then.
    """
    model, run = load_run(config.run)
    assert run.threshold is not None  # load_run takes finished runs only
    paths = _files(config.images)
    read = bad = 0
    while group := list(islice(paths, BATCH)):
        decoded = [(path, pixels) for path in group if (pixels := _pixels(path, run.image)) is not None]
        read, bad = read + len(group), bad + len(group) - len(decoded)
        if not decoded:
            continue
        probabilities = _probabilities(model, np.stack([pixels for _, pixels in decoded]))
        for (path, _), probability in zip(decoded, probabilities.tolist(), strict=True):
            name = run.classes[int(probability >= run.threshold["value"])]
            if config.json:
                print(json.dumps({"path": path, "probability": probability, "class": name}))
            else:
                print(f"{path}\t{probability:.6f}\t{name}")
    if bad or not read:
        raise JobFailed(f"{bad} of {read} images could not be read" if read else "no image in the given folders")


def _files(images: Sequence[str]) -> Iterator[str]:
    for image in images:
        if not tf.io.gfile.isdir(image):
            yield image
            continue
        for folder, _, names in sorted(tf.io.gfile.walk(image)):
            yield from (f"{folder.rstrip('/')}/{name}" for name in sorted(names) if not name.startswith("."))


def _pixels(path: str, settings: ImageSettings) -> npt.NDArray[np.uint8] | None:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return decode(file.read(), settings).pixels
    except tf.errors.NotFoundError:
        reason = "there is no such file"
    except tf.errors.OpError as error:
        reason = f"cannot be read: {error.message}"
    except ImageRejected as error:
        reason = f"rejected, {error}"
    except ImageSkipped as error:
        reason = f"not an image: {error}"
    print(f"{path}: {reason}", file=sys.stderr)
    return None


def _probabilities(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return np.asarray(model.predict_on_batch(images), dtype=np.float64)[:, 0]
