"""What TensorFlow itself offers. The limit: the raw records, with nothing done to them."""

import json
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.readers.figures import LIMIT, TUTORIAL
from benchmarks.readers.graph import tensorflow_way
from benchmarks.readers.way import Arrays, Data
from schemas import example

_SHUFFLED = 16_384  # examples at a time
_TFDS = find_spec("tensorflow_datasets") is not None  # not on Python 3.10

PACKAGES = ("keras", *(("tensorflow-datasets",) if _TFDS else ()))


def prepare(data: Data) -> None:
    """Nothing: these read the data set, or the PNGs."""


def _shards(data: Data, folder: str) -> list[str]:
    """The paths of the shards. The manifest is read from the disk, which takes no time."""
    manifest = json.loads((Path(data.records) / "manifest.json").read_text())
    return [f"{folder}/{shard['file']}" for shard in manifest["splits"]["train"]["shards"]]


def _limit(data: Data, folder: str, batch: int) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(_shards(data, folder)).batch(batch).repeat()


def _tutorial(data: Data, folder: str, batch: int) -> tf.data.Dataset:
    features = {
        example.IMAGE: tf.io.FixedLenFeature([], tf.string),
        example.LABEL: tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_single_example(record, features)
        return tf.reshape(tf.io.decode_raw(parsed[example.IMAGE], tf.uint8), data.shape), parsed[example.LABEL]

    images = tf.data.TFRecordDataset(_shards(data, folder)).shuffle(_SHUFFLED).map(parse, tf.data.AUTOTUNE)
    return images.batch(batch).prefetch(tf.data.AUTOTUNE).repeat()


def _keras(data: Data, _: str, batch: int) -> tf.data.Dataset:
    images = keras.utils.image_dataset_from_directory(
        data.png,
        color_mode="grayscale",
        image_size=data.shape[:2],
        batch_size=batch,
        shuffle=True,
        seed=0,
        verbose=False,
    )
    return images.prefetch(tf.data.AUTOTUNE).repeat()


def _tfds(_: Data, folder: str, batch: int) -> tf.data.Dataset:
    import tensorflow_datasets

    builder = tensorflow_datasets.builder_from_directory(folder)
    images = builder.as_dataset(split="train", shuffle_files=True, as_supervised=True).shuffle(_SHUFFLED)
    return images.batch(batch).prefetch(tf.data.AUTOTUNE).repeat()


def _records(batch: tf.Tensor, data: Data) -> Arrays:
    examples = [example.decode_example(record, data.shape) for record in batch.numpy()]
    return np.stack([one.image for one in examples]), np.array([one.label for one in examples])


def _arrays(batch: tuple[tf.Tensor, tf.Tensor], _: Data) -> Arrays:
    images, labels = (part.numpy() for part in batch)
    whole = images.astype(np.uint8)
    if not np.array_equal(images, whole):  # Keras gives float32
        raise ValueError("pixels are not integers from 0 to 255")
    return whole, labels


WAYS = [
    tensorflow_way(LIMIT, _limit, _records, in_bucket=True),
    tensorflow_way(TUTORIAL, _tutorial, _arrays, in_bucket=True),
    tensorflow_way("Keras image_dataset_from_directory, PNG", _keras, _arrays),
    *([tensorflow_way("TensorFlow Datasets", _tfds, _arrays, in_bucket=True)] if _TFDS else []),
]
