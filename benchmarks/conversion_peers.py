"""Two common ways to make TFRecords from a folder, for comparison: `python conversion_peers.py pillow|tfds IMAGES OUTPUT`.

benchmarks.conversion runs this file in an environment of its own, so it imports nothing from radrecords.

pillow: a pool of two processes decodes and resizes with Pillow, and the parent writes with TensorFlow's TFRecordWriter.
tfds: a TensorFlow Datasets builder, whose Beam pipeline runs on Beam's local engine.
"""

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
SIDE, SHARDS = 64, 16


def pixels_of(file: str | Path) -> NDArray[np.uint8]:
    """uint8 [SIDE, SIDE, 1]: the gray image, stretched to a square."""
    with Image.open(file) as image:
        return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))[:, :, np.newaxis]


def pillow(images: Path, output: Path) -> None:
    """Converts with a hand-written pool."""
    import tensorflow as tf

    files = sorted(file for file in images.rglob("*") if file.suffix.lower() in (".jpeg", ".jpg", ".png"))
    classes = sorted({file.parent.name for file in files})
    output.mkdir(parents=True)
    writers = [tf.io.TFRecordWriter(str(output / f"train-{shard:05d}-of-{SHARDS:05d}")) for shard in range(SHARDS)]

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for number, (file, pixels) in enumerate(zip(files, pool.imap(pixels_of, files, 16), strict=True)):
            label = classes.index(file.parent.name)
            features = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[pixels.tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writers[number % SHARDS].write(example.SerializeToString())
    for writer in writers:
        writer.close()


def tfds(images: Path, output: Path) -> None:
    """Converts with TensorFlow Datasets and Beam."""
    import apache_beam as beam
    import tensorflow_datasets

    files = sorted(str(file) for file in images.rglob("*") if file.suffix.lower() in (".jpeg", ".jpg", ".png"))
    classes = sorted({Path(file).parent.name for file in files})

    class Radiographs(tensorflow_datasets.core.GeneratorBasedBuilder):  # type: ignore[misc] # untyped
        VERSION = tensorflow_datasets.core.Version("1.0.0")
        pkg_dir_path = output

        def _info(self) -> Any:
            features = tensorflow_datasets.features.FeaturesDict(
                {
                    "image": tensorflow_datasets.features.Tensor(shape=(SIDE, SIDE, 1), dtype=np.uint8),
                    "label": tensorflow_datasets.features.ClassLabel(names=classes),
                }
            )
            return tensorflow_datasets.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager: Any) -> dict[str, Any]:  # noqa: ARG002 - the name that the base class gives
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:
            return beam.Create(files) | beam.Map(
                lambda file: (file, {"image": pixels_of(file), "label": Path(file).parent.name})
            )

    options = beam.options.pipeline_options.PipelineOptions([])
    config = tensorflow_datasets.download.DownloadConfig(beam_runner="FnApiRunner", beam_options=options)
    Radiographs(data_dir=output).download_and_prepare(download_config=config)


if __name__ == "__main__":
    {"pillow": pillow, "tfds": tfds}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
