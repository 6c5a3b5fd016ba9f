"""ONNX: one file, with the metadata as a property of the model (schemas/export.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from schemas.export import Metadata, content_of, onnx_ending
from training.exporting.serving_function import serving_function

OPSET = 17  # of 2022: ONNX Runtime 1.12 and later read it


def write(model: keras.Model, output: str, metadata: Metadata, path: Path) -> None:
    """Writes the file `path`."""
    import tf2onnx

    serve = serving_function(model, output)
    converted, _ = tf2onnx.convert.from_function(serve, serve.input_signature, opset=OPSET)
    _hold_constants(converted.graph, serve.get_concrete_function())
    network = converted.SerializeToString(deterministic=True)
    path.write_bytes(network + onnx_ending({**metadata, "content": content_of(network)}))


def _hold_constants(graph: Any, concrete: Any) -> None:
    """Puts tensors that are no variables of the model, such as the means of a Normalization layer, into the graph. tf2onnx
    makes inputs of them."""
    import onnx

    captured = concrete.captured_inputs
    names = [each.name for each in concrete.inputs[len(concrete.inputs) - len(captured) :]]
    constants = dict(zip(names, captured, strict=True))
    for each in [each for each in graph.input if each.name in constants]:
        graph.initializer.append(onnx.numpy_helper.from_array(constants[each.name].numpy(), each.name))
        graph.input.remove(each)


def loaded(path: Path, metadata: Metadata) -> Callable[[npt.NDArray[np.uint8]], Any]:
    """The exported function, images -> probabilities, in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run([metadata["output"]["name"]], {metadata["input"]["name"]: images})[0]
