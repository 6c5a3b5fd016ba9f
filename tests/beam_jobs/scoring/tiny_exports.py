"""Exports made by hand, without TensorFlow: networks whose probabilities follow from the mean of an image alone."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from schemas.export import FORMAT, FORMAT_VERSION, Metadata, content_of, onnx_ending
from schemas.labels import CLASS
from schemas.pixels.settings import ImageSettings

TWO = ("NORMAL", "PNEUMONIA")


def network(settings: ImageSettings, output: str, outputs: int, softmax: bool, bias: float = 0.0) -> bytes:
    """Logits are (1 .. outputs) times ((mean - 127.5) / 4 + bias)."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["means", "column"], ["means_column"]),
        helper.make_node("Sub", ["means_column", "middle"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], ["logits"]),
        helper.make_node("Softmax" if softmax else "Sigmoid", ["logits"], [output]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "column": np.array([-1, 1], np.int64),
        "middle": np.array([[127.5 - 4 * bias]], np.float32),
        "weights": (np.arange(1, outputs + 1, dtype=np.float32) / 4)[None],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [None, *settings.shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def metadata_of(
    settings: ImageSettings, classes: Sequence[str], kind: str, threshold: float, temperature: float | None
) -> Metadata:
    """As training.export writes them, without `content`."""
    one = kind == CLASS and len(classes) == 2
    point: dict[str, Any] = {"value": threshold} if one else {"values": [threshold] * len(classes)}
    outputs = 1 if one else len(classes)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run": {"weights_sha256": "0" * 64, "recipe": {"name": "tiny"}, "data": {"name": "toy"}},
        "input": {"name": "image", "dtype": "uint8", "shape": [None, *settings.shape]},
        "output": {
            "name": "probability" if one else "probabilities",
            "dtype": "float32",
            "shape": [None, outputs],
        },
        "classes": list(classes),
        "label_kind": kind,
        "preprocessing": asdict(settings),
        "operating_point": point,
        "calibration": None if temperature is None else {"temperature": temperature},
    }


def write_export(
    path: Path,
    settings: ImageSettings | None = None,
    classes: Sequence[str] = TWO,
    kind: str = CLASS,
    threshold: float = 0.4,
    temperature: float | None = 2.0,
    bias: float = 0.0,
) -> Path:
    """Writes a tiny export to `path`."""
    settings = settings or ImageSettings(image_size=16)
    metadata = metadata_of(settings, classes, kind, threshold, temperature)
    name, (_, outputs) = metadata["output"]["name"], metadata["output"]["shape"]
    data = network(settings, name, outputs, kind == CLASS and outputs > 1, bias)
    path.write_bytes(data + onnx_ending({**metadata, "content": content_of(data)}))
    return path
