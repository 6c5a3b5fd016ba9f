"""TensorFlow's SavedModel: a folder that TensorFlow Serving serves, with the metadata in assets.extra/radrecords.json."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from schemas.export import Metadata, as_json
from training.exporting.metadata import FILE, file_digests
from training.exporting.serving_function import serving_function

EXTRA = "assets.extra"  # the place for what is not of TensorFlow in a SavedModel
SIGNATURE = "serving_default"


def write(model: keras.Model, output: str, metadata: Metadata, path: Path) -> None:
    """Writes the folder `path`."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serving_function(model, output))  # the first endpoint is SIGNATURE too
    archive.write_out(str(path), verbose=False)
    (path / EXTRA).mkdir()
    (path / EXTRA / FILE).write_text(as_json({**metadata, "content": file_digests(path)}) + "\n", encoding="utf-8")


def loaded(path: Path, metadata: Metadata) -> Callable[[npt.NDArray[np.uint8]], Any]:
    """The exported function, images -> probabilities. A SavedModel is a program: load only what you have written."""
    import tensorflow as tf

    archive = tf.saved_model.load(str(path))
    serve = archive.signatures[SIGNATURE]
    return lambda images: serve(**{metadata["input"]["name"]: tf.constant(images)})[metadata["output"]["name"]].numpy()
