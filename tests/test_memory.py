"""A conversion or a prediction of many images needs no more memory than one of few."""

from pathlib import Path

import pytest

from benchmarks.memory import MODES, measured
from schemas.pixels.settings import ImageSettings

# The search for near-duplicates takes one part of bounded size at a time, and 10,000 images do not fill a part.
_MOST_MORE = 64 << 20


@pytest.mark.memory
@pytest.mark.parametrize("mode", MODES)
def test_memory_does_not_grow_with_the_number_of_images(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (measured(count, MODES[mode]) for count in (10_000, 100_000))
    with capsys.disabled():
        for found in (few, many):
            launcher, worker = (found[name] / 2**20 for name in ("launcher_bytes", "worker_bytes"))
            print(f"\n{mode}: {found['images']:,} images, peak memory {launcher:.0f} + {worker:.0f} MiB", end="")
    assert many["launcher_bytes"] - few["launcher_bytes"] < _MOST_MORE
    assert many["worker_bytes"] - few["worker_bytes"] < _MOST_MORE


@pytest.mark.memory
def test_memory_of_a_prediction_does_not_grow_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="prediction needs it")
    from tests.beam_jobs.scoring.tiny_exports import write_export

    model = str(write_export(tmp_path / "model.onnx", ImageSettings(image_size=64)))
    few, many = (measured(count, ("--model", model), "beam_jobs.predict") for count in (4_000, 32_000))
    with capsys.disabled():
        for found in (few, many):
            print(f"\n{found['images']:,} images, peak memory {found['worker_bytes'] / 2**20:.0f} MiB", end="")
    assert many["worker_bytes"] - few["worker_bytes"] < _MOST_MORE
