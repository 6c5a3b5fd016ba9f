"""TensorFlow Lite (LiteRT): one file, with the metadata behind the network as radrecords.json in a ZIP archive.

That is how TensorFlow Lite's own metadata adds files to a model: interpreters ignore what follows the network, and unzip
ignores what precedes the archive (https://ai.google.dev/edge/litert/models/metadata).
"""

import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from schemas.export import Metadata, as_json, content_of
from training.exporting import saved_model
from training.exporting.metadata import FILE

IDENTIFIER = slice(4, 8), b"TFL3"  # of the flatbuffer schema


def write(model: keras.Model, output: str, metadata: Metadata, path: Path) -> None:
    """Writes the file `path`."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        saved_model.write(model, output, metadata, Path(folder, "model"))
        network: bytes = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model").convert()
    path.write_bytes(network + ending({**metadata, "content": content_of(network)}))


def ending(metadata: Metadata) -> bytes:
    """What follows the network in the file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(zipfile.ZipInfo(FILE), as_json(metadata))  # its date is fixed
    return data.getvalue()


def metadata_in(data: bytes) -> Metadata:
    """The metadata in a file. Raises ValueError, KeyError or BadZipFile if there is none."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if archive.getinfo(FILE).file_size > len(data):  # it is stored as it is
            raise ValueError("compressed")
        metadata: Metadata = json.loads(archive.read(FILE))
    return metadata


def loaded(path: Path, metadata: Metadata) -> Callable[[npt.NDArray[np.uint8]], Any]:
    """The exported function, images -> probabilities, in TensorFlow's interpreter."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "tf.lite.Interpreter is deprecated|.*tf.lite.Interpreter is deprecated")
        runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    return lambda images: runner(**{metadata["input"]["name"]: images})[metadata["output"]["name"]]
