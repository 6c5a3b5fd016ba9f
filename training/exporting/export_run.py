"""Exports the model of a run, and compares the export with it."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import keras
import numpy as np

from schemas.errors import JobFailed, UsageError, one_line
from schemas.export import Metadata
from training.config import ONNX, SAVED_MODEL, TFLITE, ExportConfig
from training.exporting import onnx_file, saved_model, tflite_file
from training.exporting.metadata import FILE, metadata_of, output_of
from training.loading import quiet_loading
from training.runs.run_bucket import working_copy
from training.runs.run_folder import MODEL, WEIGHTS, load_run
from training.runs.weights_file import sha256_of

WRITERS = {ONNX: onnx_file, SAVED_MODEL: saved_model, TFLITE: tflite_file}
NEEDED = {ONNX: ("onnx", "tf2onnx", "onnxruntime"), SAVED_MODEL: (), TFLITE: ()}
COMPARED, AGREEMENT = 32, 1e-5  # images; greatest difference of a probability


def export(config: ExportConfig) -> Metadata:
    """Writes the export, prints its SHA-256, and returns its metadata.

    Raises UsageError if the run cannot be read, the output exists or a library is missing, and JobFailed if the network
    cannot be converted or the export does not compute what the run does.
    """
    _check_libraries(config.format)
    path = Path(config.output)
    if path.exists():
        raise UsageError(f"--output {path} already exists; choose another, or delete it")
    with working_copy(config.run, MODEL) as copy:
        model, run = load_run(copy.folder, config.recipe)
        metadata = metadata_of(run, sha256_of(Path(copy.folder, WEIGHTS)))
    writer, part = WRITERS[config.format], path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(part)
        worst = _written(writer, model, output_of(run), metadata, part)
        os.replace(part, path)
    except OSError as error:
        raise UsageError(f"cannot write to --output {path}: {error.strerror}") from error
    finally:
        _remove(part)
    print(f"{path}: {config.format}; agrees with the run on {COMPARED} images within {worst:.1e}")
    print(f"SHA-256 of {_named(path)}: {digest_of(path)}")
    return metadata


def digest_of(path: Path) -> str:
    """The SHA-256 of an export that is a file, or of the metadata of one that is a folder, which hold the others."""
    file = path / saved_model.EXTRA / FILE if path.is_dir() else path
    return sha256_of(file)


def _named(path: Path) -> str:
    return f"its {saved_model.EXTRA}/{FILE}" if path.is_dir() else "the file"


def _written(writer: ModuleType, model: keras.Model, output: str, metadata: Metadata, part: Path) -> float:
    """The greatest difference of a probability between the export and the model, for random images."""
    with quiet_loading():  # the converters log to stderr
        try:
            writer.write(model, output, metadata, part)
        except OSError:
            raise
        except Exception as error:  # of an operation that a format does not have: each converter has its own
            raise JobFailed(f"the network cannot be exported: {one_line(str(error), 200)}") from error
        serve = writer.loaded(part, metadata)
        images = np.random.default_rng(0).integers(0, 256, (COMPARED, *model.input_shape[1:]), np.uint8)
        expected = np.asarray(model.predict_on_batch(images), np.float64)
        worst = float(np.abs(np.asarray(serve(images), np.float64) - expected).max())
    if not worst <= AGREEMENT:
        raise JobFailed(f"the export differs from the run by {worst:.1e} in a probability, and was deleted")
    return worst


def _check_libraries(format: str) -> None:
    if keras.config.backend() != "tensorflow":
        raise UsageError(
            f"training.export needs TensorFlow, and Keras uses {keras.config.backend()}; install the extra train, and do "
            "not set KERAS_BACKEND"
        )
    missing = [name for name in NEEDED[format] if find_spec(name) is None]
    if missing:
        raise UsageError(f"--format {format} needs {', '.join(missing)}; in a clone, run: pip install '.[export]'")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
