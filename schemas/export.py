"""The contract of exports: what an export says of itself, as JSON, and how a file of ONNX holds that.

`training.export` writes exports; `training.verify` and `beam_jobs.predict` read them. An ONNX file is the network, then the
property `radrecords` of the model. Protocol buffers may be written one after the other and are read as one, so the bytes of
the network alone can have a digest, which the property states.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import UsageError
from schemas.labels import CLASS, KINDS
from schemas.pixels.settings import ImageSettings

FORMAT, FORMAT_VERSION = "radrecords-export", 1
KEY = "radrecords"  # of the JSON in an ONNX file
INPUT, PROBABILITY, PROBABILITIES = "image", "probability", "probabilities"

Metadata = dict[str, Any]


@dataclass(frozen=True)
class ExportedModel:
    """What is needed to use an export. thresholds: the operating point of each output. temperature: None if the run has no
    calibration. weights_sha256: of the run's weights file. input, output: names of tensors of the network."""

    classes: tuple[str, ...]
    label_kind: str
    image: ImageSettings
    thresholds: tuple[float, ...]
    temperature: float | None
    weights_sha256: str
    input: str = INPUT
    output: str = PROBABILITY

    @property
    def outputs(self) -> int:
        """The number of probabilities that the network gives for an image."""
        return 1 if self.output == PROBABILITY else len(self.classes)


def as_json(metadata: Mapping[str, Any]) -> str:
    """The same text for equal metadata."""
    return json.dumps(metadata, sort_keys=True)


def content_of(data: bytes) -> Metadata:
    """The `content` of an export that is one file: what precedes the metadata in it."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def checked(metadata: Any) -> Metadata:
    """The metadata if they are an export's. Raises ValueError, KeyError or TypeError otherwise."""
    if metadata["format"] != FORMAT or not isinstance(metadata["format_version"], int):
        raise ValueError("another format")
    found: Metadata = metadata
    return found


def check_version(metadata: Metadata, path: str) -> None:
    """Raises UsageError for an export of a newer version."""
    if metadata["format_version"] > FORMAT_VERSION:
        raise UsageError(f"{path} has format version {metadata['format_version']}; upgrade radrecords")


def model_of(metadata: Metadata) -> ExportedModel:
    """What is needed to use an export with these metadata. Raises ValueError, KeyError or TypeError if they contradict
    themselves."""
    classes, kind, point = metadata["classes"], metadata["label_kind"], metadata["operating_point"]
    one = kind == CLASS and len(classes) == 2
    # None: the validation split had only positive or only negative examples of the finding.
    values = [point["value"]] if one else [0.5 if value is None else value for value in point["values"]]
    calibration = metadata["calibration"]
    model = ExportedModel(
        classes=tuple(classes),
        label_kind=kind,
        image=ImageSettings(**metadata["preprocessing"]),
        thresholds=tuple(map(float, values)),
        temperature=float(calibration["temperature"]) if calibration else None,
        weights_sha256=str(metadata["run"]["weights_sha256"]),
        input=str(metadata["input"]["name"]),
        output=str(metadata["output"]["name"]),
    )
    names = all(isinstance(name, str) and name for name in classes) and len(set(classes)) == len(classes)
    if not names or kind not in KINDS or len(classes) < (2 if kind == CLASS else 1):
        raise ValueError("classes")
    if (model.output == PROBABILITY) != one or len(model.thresholds) != model.outputs:
        raise ValueError("outputs")
    if not all(map(math.isfinite, model.thresholds)) or not 0 < (model.temperature or 1.0) < math.inf:
        raise ValueError("numbers")
    if tuple(metadata["input"]["shape"][1:]) != model.image.shape:
        raise ValueError("shapes")
    return model


def onnx_ending(metadata: Metadata) -> bytes:
    """What follows the network in an ONNX file. Needs onnx."""
    import onnx

    end = onnx.ModelProto()
    onnx.helper.set_model_props(end, {KEY: as_json(metadata)})
    data: bytes = end.SerializeToString(deterministic=True)
    return data


def metadata_in_onnx(data: bytes) -> Metadata:
    """The metadata in an ONNX file. Raises ValueError if there are none. Needs onnx."""
    import onnx

    try:
        properties = onnx.load_model_from_string(data).metadata_props  # parses, and loads no external data
    except Exception as error:  # of protobuf, for bytes that are no model
        raise ValueError("not ONNX") from error
    (text,) = (each.value for each in properties if each.key == KEY)
    metadata: Metadata = json.loads(text)
    return metadata


def check_content(data: bytes, metadata: Metadata, ending: bytes) -> None:
    """Raises ValueError unless the file `data` is the network whose digest the metadata state, and this `ending`."""
    network = data[: metadata["content"]["bytes"]]
    if metadata["content"] != content_of(network) or data != network + ending:
        raise ValueError("other bytes")


def read_onnx(data: bytes, path: str) -> tuple[ExportedModel, Metadata]:
    """The model and the metadata of an export in ONNX; `data` is the content of the file `path`. Executes nothing of it.
    Raises UsageError if it is none, is damaged, or holds anything that training.export did not write. Needs onnx."""
    try:
        metadata = checked(metadata_in_onnx(data))
        check_content(data, metadata, onnx_ending(metadata))
        check_version(metadata, path)
        return model_of(metadata), metadata
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise UsageError(
            f"{path} is not an export in ONNX, or is damaged; export the run again: python -m training.export --format onnx"
        ) from error
