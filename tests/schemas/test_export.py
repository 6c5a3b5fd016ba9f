"""The contract between training.export, which writes metadata, and what reads them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("onnx", reason="reading exports needs it")

from schemas.errors import UsageError
from schemas.export import ExportedModel, content_of, model_of, onnx_ending, read_onnx
from schemas.labels import CLASS, MULTI_HOT
from schemas.pixels.settings import ImageSettings
from tests.beam_jobs.scoring.tiny_exports import network

# What training.export wrote in format version 1, with other digits. Never change it: files of this version exist.
VERSION_1 = """
{"calibration": {"temperature": 1.7}, "classes": ["NORMAL", "PNEUMONIA"], "format": "radrecords-export", "format_version": 1,
"input": {"dtype": "uint8", "name": "image", "shape": [null, 64, 64, 1]}, "label_kind": "class",
"operating_point": {"source": "maximises Youden's J", "value": 0.43},
"output": {"dtype": "float32", "name": "probability", "shape": [null, 1]},
"preprocessing": {"allow_burned_in": false, "brightness": 0.0, "channels": 1, "contrast": 1.0, "crop": 1.0, "image_size": 64,
"max_aspect": 20.0, "max_pixels": 100000000, "resize_mode": "stretch"},
"run": {"best": {"epoch": 3}, "data": {"name": "toy", "revision": 1, "version": "1.0.0"}, "recipe": {"name": "model1"},
"seed": 0, "versions": {}, "weights_sha256": "0123"}}"""


def file_of(metadata: dict[str, Any]) -> bytes:
    data = network(ImageSettings(image_size=64), "probability", 1, softmax=False)
    return data + onnx_ending({**metadata, "content": content_of(data)})


def test_an_export_of_version_1_is_read() -> None:
    model, metadata = read_onnx(file_of(json.loads(VERSION_1)), "model.onnx")
    assert model == ExportedModel(
        classes=("NORMAL", "PNEUMONIA"),
        label_kind=CLASS,
        image=ImageSettings(image_size=64),
        thresholds=(0.43,),
        temperature=1.7,
        weights_sha256="0123",
        input="image",
        output="probability",
    )
    assert model.outputs == 1
    assert metadata["run"]["recipe"] == {"name": "model1"}


def test_thresholds_of_findings_that_could_not_be_chosen_are_a_half() -> None:
    metadata = json.loads(VERSION_1)
    metadata |= {"classes": ["A", "B", "C"], "label_kind": MULTI_HOT, "calibration": None}
    metadata["operating_point"] = {"values": [0.1, None, 0.9]}
    metadata["output"]["name"] = "probabilities"
    model = model_of(metadata)
    assert (model.thresholds, model.temperature, model.outputs) == ((0.1, 0.5, 0.9), None, 3)


def changed(**entries: Any) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata.update(entries)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": changed(format="other"),
    "no version": changed(format_version="1"),
    "no classes": changed(classes=[]),
    "a class twice": changed(classes=["A", "A"]),
    "classes that are no list": changed(classes=7),
    "another kind": changed(label_kind="boxes"),
    "no threshold": changed(operating_point={}),
    "a threshold that is no number": changed(operating_point={"value": float("nan")}),
    "a temperature below 0": changed(calibration={"temperature": -1}),
    "an unknown setting": changed(preprocessing={"image_size": 64, "colour": "red"}),
    "another size": changed(preprocessing={"image_size": 32}),
    "a list": changed(run=[]),
    "several outputs of two classes": changed(output={"name": "probabilities", "shape": [None, 2]}),
    "nothing": lambda metadata: metadata.clear(),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_metadata_that_contradict_themselves_are_refused(change: str) -> None:
    metadata = json.loads(VERSION_1)
    CHANGES[change](metadata)
    with pytest.raises(UsageError, match=r"^model\.onnx is not an export in ONNX, or is damaged; export the run again"):
        read_onnx(file_of(metadata), "model.onnx")


def test_a_newer_version_asks_for_an_upgrade() -> None:
    with pytest.raises(UsageError, match=r"format version 2; upgrade radrecords"):
        read_onnx(file_of(json.loads(VERSION_1) | {"format_version": 2}), "model.onnx")


def test_a_file_that_is_not_as_it_was_written_is_refused() -> None:
    good = file_of(json.loads(VERSION_1))
    at = len(good) // 8
    spoilt = [b"", b"\x80\x04N.", good[:-10], good[:at], good + b"\x3a\x00", good.replace(b"PNEUMONIA", b"PNEUMONIE")]
    spoilt[-1] = spoilt[-1].replace(b'"bytes"', b'"bites"')
    for content in (*spoilt, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]):
        with pytest.raises(UsageError, match="is not an export in ONNX, or is damaged"):
            read_onnx(content, "model.onnx")
