"""Training on two devices, and with the splits on the device, is training: the same examples, the same steps."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import run_command
from tests.training.conftest import DataSet
from training import train
from training.devices.feeds import on_device
from training.models.recipes import own_recipe
from training.reading.records import open_split
from training.runs.run_folder import load_run, read_history

ROOT = Path(__file__).parents[3]
# Without dropout or normalisation, so that how a batch is shared changes nothing but the order of additions. Batches of 17,
# and the last ones of 96 and 40 examples, cannot be shared equally.
RECIPE = """
from keras import layers
from training.models.recipes import Recipe

def body(images, dtype):
    x = layers.Conv2D(4, 5, strides=4, activation="relu", dtype=dtype)(images)
    return layers.GlobalAveragePooling2D(dtype=dtype)(x)

RECIPE = Recipe(name="tiny", model="tiny", epochs=2, batch_size=17, learning_rate=0.01, balanced=True, body=body)
"""
TWO_CPUS = """
import json, sys
import keras
if keras.config.backend() == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from schemas.errors import run_command
from training import train
for words in json.loads(sys.argv[1]):
    if code := run_command(train.main, words):
        sys.exit(code)
"""
WAYS: tuple[list[str], ...] = ([], ["--devices", "all"], ["--cache", "device"], ["--cache", "none"])


def test_the_same_run_whatever_the_devices_and_the_cache(dataset: DataSet, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)
    runs = [tmp_path / f"run{number}" for number in range(len(WAYS))]
    words = [
        ["--data", str(dataset.folder), "--recipe", str(recipe), "--output", str(output), *more]
        for output, more in zip(runs, WAYS, strict=True)
    ]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", TWO_CPUS, json.dumps(words)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

    rows = read_history(str(runs[0]))
    model, _ = load_run(str(runs[0]), own_recipe(str(recipe)))
    for output, more in zip(runs[1:], WAYS[1:], strict=True):
        other, config = load_run(str(output), own_recipe(str(recipe)))
        assert config.compute["devices"] == (2 if "--devices" in more else 1)
        for weight, other_weight in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(other_weight, weight, rtol=2e-4, atol=2e-6)
        for row, other_row in zip(rows, read_history(str(output)), strict=True):
            # The mean loss over batches counts the repetitions in the last one; nothing else does.
            tolerance = {name: 2e-2 if "loss" in name else 2e-3 for name in row}
            assert {name: abs(other_row[name] - row[name]) < tolerance[name] for name in row} == dict.fromkeys(
                row, True
            )


def test_more_devices_than_there_are(dataset: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(dataset.folder), "--recipe", "model1", "--output", str(tmp_path / "run")]
    assert run_command(train.main, [*words, "--devices", "9"]) == 2
    assert "--devices 9: " in capsys.readouterr().err
    assert run_command(train.main, [*words, "--devices", "none"]) == 2
    assert "must be a number of devices or all" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="of TensorFlow's graph")
def test_nothing_follows_the_prefetch_to_a_gpu(dataset: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU. It has none here, so the pipeline is made and not run."""
    import tensorflow as tf

    from training.reading.input_pipeline import batches

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    split = open_split(str(dataset.folder), dataset.manifest, "train")
    made = batches(split, 17)
    (before,) = made._inputs()
    assert (type(made).__name__, type(before).__name__) == ("_PrefetchDataset", "_CopyToDeviceDataset")
    assert int(made._buffer_size) == 2


@pytest.mark.skipif(find_spec("jax") is None, reason="of JAX")
def test_with_jax_two_batches_are_on_the_device_ahead() -> None:
    import jax

    taken = []

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        for number in range(5):
            taken.append(number)
            yield (np.full(3, number),)

    moved = on_device(batches(), "jax")
    for number in range(5):
        (batch,) = next(moved)
        assert isinstance(batch, jax.Array)
        assert batch.tolist() == [number] * 3
        assert len(taken) == min(5, number + 2)
    assert next(moved, None) is None
