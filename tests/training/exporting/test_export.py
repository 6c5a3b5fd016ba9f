"""An export computes what its run does, and says what else its user must know."""

import contextlib
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tensorflow", reason="exports need it")

import onnx
import onnxruntime
import tensorflow as tf

from schemas.errors import UsageError, run_command
from schemas.labels import MULTI_HOT
from schemas.pixels.settings import ImageSettings
from tests.training.conftest import DataSet
from tests.training.untrained_runs import write_run
from training import export, verify
from training.exporting import export_run
from training.exporting.reading import read_export
from training.models.recipes import MODEL1, SMALL_RESNET, Recipe, own_recipe
from training.runs.run_folder import load_run

ROOT = Path(__file__).parents[3]
RECIPE = """
from keras import layers

from training.models.recipes import Recipe


def body(images, dtype):
    x = layers.Normalization(mean=(0.4,), variance=(0.05,), dtype="float32")(images)
    return layers.Flatten(dtype=dtype)(layers.Conv2D(4, 3, activation="relu", dtype=dtype)(x))


RECIPE = Recipe(name="mine", model="tiny", epochs=1, body=body)
"""
FINDINGS = ("Mass", "Nodule", "Edema")


def exported(run: Path, format: str, output: Path, *more: str) -> Path:
    assert run_command(export.main, ["--run", str(run), "--format", format, "--output", str(output), *more]) == 0
    return output


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network with batch normalisation and augmentation."""
    folder = tmp_path_factory.mktemp("residual") / "run"
    write_run(folder, SMALL_RESNET, ImageSettings(image_size=64, channels=3, resize_mode="letterbox"))
    return folder


def images_for(run: Path, count: int) -> npt.NDArray[np.uint8]:
    """Noise of different contrast, so that the probabilities differ."""
    random = np.random.default_rng(1)
    shape = load_run(str(run))[1].image.shape
    noise, contrast = random.random((count, *shape)), random.random((count, 1, 1, 1))
    images: npt.NDArray[np.uint8] = (noise * contrast * 255).astype(np.uint8)
    return images


def expected(run: Path, images: npt.NDArray[np.uint8], own: Recipe | None = None) -> npt.NDArray[np.float32]:
    model, _ = load_run(str(run), own)
    probabilities: npt.NDArray[np.float32] = np.asarray(model.predict(images, verbose=0))
    assert np.ptp(probabilities) > 1e-3
    return probabilities


def in_onnx_runtime(path: Path, output: str, images: npt.NDArray[np.uint8]) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run([output], {"image": images})[0]


def test_onnx_agrees_with_keras_on_500_images(run: Path, dataset: DataSet, tmp_path: Path) -> None:
    path = exported(run, "onnx", tmp_path / "model.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    images = images_for(run, 500)
    given = in_onnx_runtime(path, "probability", images)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected(run, images), atol=1e-5, rtol=0)


def test_onnx_of_a_network_with_batch_normalisation_and_augmentation(residual: Path, tmp_path: Path) -> None:
    path = exported(residual, "onnx", tmp_path / "model.onnx")
    images = images_for(residual, 40)
    np.testing.assert_allclose(
        in_onnx_runtime(path, "probability", images), expected(residual, images), atol=1e-5, rtol=0
    )
    assert not [node.op_type for node in onnx.load(path).graph.node if "Random" in node.op_type]


def test_onnx_of_a_recipe_of_ones_own_with_constants(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(RECIPE)
    own = own_recipe(str(tmp_path / "mine.py"))
    assert own
    write_run(tmp_path / "run", own, ImageSettings(image_size=16))
    path = exported(tmp_path / "run", "onnx", tmp_path / "model.onnx", "--recipe", str(tmp_path / "mine.py"))
    images = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 1), np.uint8)
    given = in_onnx_runtime(path, "probability", images)
    np.testing.assert_allclose(given, expected(tmp_path / "run", images, own), atol=1e-5, rtol=0)
    assert str(tmp_path) not in json.dumps(read_export(str(path)))


def test_onnx_of_several_findings(tmp_path: Path) -> None:
    write_run(tmp_path / "run", MODEL1, ImageSettings(image_size=24), FINDINGS, MULTI_HOT)
    path = exported(tmp_path / "run", "onnx", tmp_path / "model.onnx")
    images = images_for(tmp_path / "run", 20)
    given = in_onnx_runtime(path, "probabilities", images)
    np.testing.assert_allclose(given, expected(tmp_path / "run", images), atol=1e-5, rtol=0)
    metadata = read_export(str(path))
    assert metadata["classes"] == list(FINDINGS)
    assert metadata["output"] == {"name": "probabilities", "dtype": "float32", "shape": [None, 3]}
    assert metadata["operating_point"] == {"values": [0.4] * 3}


def metadata_as_documented(path: Path) -> Any:
    """Read without radrecords' own code."""
    if path.is_dir():
        return json.loads((path / "assets.extra/radrecords.json").read_text())
    if path.suffix == ".onnx":
        return json.loads({each.key: each.value for each in onnx.load(path).metadata_props}["radrecords"])
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("radrecords.json"))


@pytest.fixture(scope="module")
def exports(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One in each format, of one run."""
    folder = tmp_path_factory.mktemp("exports")
    names = {"onnx": "model.onnx", "savedmodel": "serving/model/1", "tflite": "model.tflite"}
    made = {}
    for format, name in names.items():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            made[format] = exported(run, format, folder / name)
        file = made[format] / "assets.extra/radrecords.json" if format == "savedmodel" else made[format]
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert printed.getvalue().splitlines()[-1].endswith(f": {digest}")
    return made


def test_a_saved_model(exports: dict[str, Path], run: Path) -> None:
    serve = tf.saved_model.load(str(exports["savedmodel"])).signatures["serving_default"]
    images = images_for(run, 10)
    given = serve(image=tf.constant(images))
    assert set(given) == {"probability"}
    np.testing.assert_allclose(given["probability"], expected(run, images), atol=1e-5, rtol=0)


def test_a_tflite_model(exports: dict[str, Path], run: Path) -> None:
    images = images_for(run, 10)
    with pytest.warns(UserWarning, match="deprecated"):
        given = tf.lite.Interpreter(str(exports["tflite"])).get_signature_runner()(image=images)
    np.testing.assert_allclose(given["probability"], expected(run, images), atol=1e-5, rtol=0)


@pytest.mark.parametrize("format", ["onnx", "savedmodel", "tflite"])
def test_the_metadata(exports: dict[str, Path], run: Path, format: str) -> None:
    metadata = read_export(str(exports[format]))
    assert metadata == metadata_as_documented(exports[format])
    config = json.loads((run / "config.json").read_text())
    digest = hashlib.sha256((run / "model.weights.h5").read_bytes()).hexdigest()
    assert metadata["run"]["weights_sha256"] == digest == config["weights_sha256"]
    assert metadata["preprocessing"] == config["image"]
    assert metadata["classes"] == ["NORMAL", "PNEUMONIA"]
    assert metadata["operating_point"] == config["threshold"]
    assert metadata["calibration"] == config["calibration"]
    assert metadata["input"] == {"name": "image", "dtype": "uint8", "shape": [None, 64, 64, 1]}
    assert str(run) not in json.dumps(metadata)


def spoilt(data: bytes) -> dict[str, bytes]:
    """A file's content, damaged in several ways."""
    return {
        "cut": data[:-10],
        "half": data[: len(data) // 2],
        "flipped": data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
        "with another graph": data + b"\x3a\x00",  # which protocol buffers would merge
        "empty": b"",
        "a pickle": b"\x80\x04N.",
        "another class": data.replace(b"PNEUMONIA", b"PNEUMONIE").replace(b'"bytes"', b'"bites"'),
    }


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_damaged_file_is_refused(exports: dict[str, Path], tmp_path: Path, format: str) -> None:
    path = tmp_path / "model"
    for content in spoilt(exports[format].read_bytes()).values():
        path.write_bytes(content)
        with pytest.raises(UsageError, match=f"{path} is not an export, or is damaged; export the run again"):
            read_export(str(path))


def test_a_damaged_folder_is_refused(exports: dict[str, Path], tmp_path: Path) -> None:
    for change in ("cut", "more", "gone", "link"):
        copy = shutil.copytree(exports["savedmodel"], tmp_path / change)
        graph = copy / "saved_model.pb"
        if change == "cut":
            graph.write_bytes(graph.read_bytes()[:-1])
        elif change == "more":
            (copy / "assets/more.txt").parent.mkdir(exist_ok=True)
            (copy / "assets/more.txt").write_text("x")
        elif change == "gone":
            graph.unlink()
        else:
            graph.rename(tmp_path / "elsewhere.pb")
            graph.symlink_to(tmp_path / "elsewhere.pb")
        with pytest.raises(UsageError, match="is not an export, or is damaged"):
            read_export(str(copy))
    with pytest.raises(UsageError, match="does not exist, or is not an export"):
        read_export(str(tmp_path))


def test_the_command_that_verifies(
    exports: dict[str, Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Callable[..., str]
) -> None:
    paths = [*map(str, exports.values()), str(run)]
    assert run_command(verify.main, paths) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == paths
    digest = hashlib.sha256((run / "model.weights.h5").read_bytes()).hexdigest()
    assert all(f"of a run of model1, as it was written; SHA-256 of the weights: {digest}" in line for line in lines[:3])
    assert lines[3].endswith(f": run of model1, as training left it; SHA-256 of the weights: {digest}")

    cut = tmp_path / "model.onnx"
    cut.write_bytes(exports["onnx"].read_bytes()[:-1])
    assert f"{cut} is not an export, or is damaged" in fails(2, verify.main, cut)
    changed = shutil.copytree(run, tmp_path / "run")
    (changed / "model.weights.h5").write_bytes((run / "model.weights.h5").read_bytes() + b"x")
    assert "is not the file that training left" in fails(2, verify.main, changed)
    assert "does not exist, or is not an export" in fails(2, verify.main, tmp_path / "absent")


def test_an_export_that_computes_something_else_is_deleted(
    run: Path, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_run, "AGREEMENT", -1.0)
    flags = ("--run", run, "--format", "onnx", "--output", tmp_path / "model.onnx")
    assert "the export differs from the run by" in fails(1, export.main, *flags)
    assert not list(tmp_path.iterdir())


def test_errors(run: Path, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--format", "onnx", "--output", tmp_path)
    assert "already exists; choose another" in fails(2, export.main, "--run", run, *flags)
    assert "has no config.json" in fails(
        2, export.main, "--run", tmp_path, "--format", "onnx", "--output", tmp_path / "x"
    )
    assert "must be local" in fails(2, export.main, "--run", run, "--format", "onnx", "--output", "gs://b/x")
    assert "invalid choice: 'torch'" in fails(2, export.main, "--run", run, "--format", "torch", "--output", "x")
    (tmp_path / "file").write_text("")
    under_a_file = fails(2, export.main, "--run", run, "--format", "onnx", "--output", tmp_path / "file/x")
    assert "cannot write to --output" in under_a_file
    monkeypatch.setattr(export_run, "find_spec", lambda _name: None)
    missing = fails(2, export.main, "--run", run, "--format", "onnx", "--output", tmp_path / "x")
    assert "needs onnx, tf2onnx, onnxruntime; in a clone, run: pip install '.[export]'" in missing


def test_the_documented_lines_serve_an_export(
    exports: dict[str, Path], run: Path, dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/train.md").read_text(), re.DOTALL | re.MULTILINE)
    (lines,) = (block for block in shown if "onnxruntime" in block)
    monkeypatch.chdir(tmp_path)
    shutil.copy(exports["onnx"], "model.onnx")
    pixels = dataset.examples["test"][0].image
    np.save("images.npy", pixels[np.newaxis])
    namespace: dict[str, Any] = {}
    exec(lines, namespace)
    probability = expected_one(run, pixels)
    np.testing.assert_allclose(namespace["probability"][0, 0], probability, atol=1e-5)
    threshold = read_export("model.onnx")["operating_point"]["value"]
    assert namespace["names"] == [("NORMAL", "PNEUMONIA")[int(probability >= threshold)]]


def expected_one(run: Path, pixels: npt.NDArray[np.uint8]) -> float:
    model, _ = load_run(str(run))
    return float(np.asarray(model(pixels[np.newaxis]))[0, 0])
