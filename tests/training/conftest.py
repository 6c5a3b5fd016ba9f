"""Small data sets, written by the functions that define the format, and one trained run."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.dataset import MANIFEST, Manifest, Shard
from schemas.errors import run_command
from schemas.example import Example, encode_example, frame_record, layout_of
from schemas.labels import CLASS, MULTI_HOT_UNCERTAIN, Label, positives
from schemas.pixels.settings import ImageSettings
from schemas.shard_name import ShardName
from training import train

# Compare with TensorFlow, which the environment of make test-jax lacks.
collect_ignore = [] if find_spec("tensorflow") else ["reading/test_input_pipeline.py", "reading/test_array_batches.py"]

CLASSES = ("NORMAL", "PNEUMONIA")


@dataclass(frozen=True)
class DataSet:
    """A data set folder with what was written into it, by split, in the order of shards and records."""

    folder: Path
    manifest: Manifest
    examples: Mapping[str, list[Example]]

    def shard(self, split: str, index: int = 0) -> Path:
        return self.folder / self.manifest.splits[split][index].file

    @staticmethod
    def index_of(pixels: NDArray[np.uint8]) -> int:
        """The number of the example that `pixels` are of."""
        return int(pixels[0, 0, 0]) * 256 + int(pixels[0, 1, 0])


def image(index: int, label: int, size: int) -> NDArray[np.uint8]:
    """Noise, brighter in the middle where `label` is 1, or in one of seven where it is 0, so that no model is perfect.
    The first two pixels hold `index`."""
    bright = 1 - label if index % 7 == 0 else label
    pixels = np.random.default_rng(index).integers(0, 120, (size, size, 1), dtype=np.uint8)
    third = size // 3
    pixels[third:-third, third:-third] += np.uint8(90 * bright)
    pixels[0, :2, 0] = divmod(index, 256)
    return pixels


def bright(label: Label) -> int:
    return int(label[0] == 1) if isinstance(label, tuple) else int(label == 1)


def write_dataset(
    folder: Path,
    examples: Mapping[str, int],
    size: int = 64,
    shards: int = 3,
    classes: tuple[str, ...] = CLASSES,
    label: Callable[[int], Label] = lambda index: index % 2,
) -> DataSet:
    """Images that are bright in the middle if their label is 1, or names the first class."""
    kind = MULTI_HOT_UNCERTAIN if isinstance(label(0), tuple) else CLASS
    folder.mkdir(parents=True)
    start, splits = 0, {}
    written: dict[str, list[Example]] = {}
    for split, count in examples.items():
        rows = [
            Example(image(index, bright(label(index)), size), label(index), f"{index:032x}", f"{index // 2:032x}")
            for index in range(start, start + count)
        ]
        start += count
        entries = []
        written[split] = []
        for number in range(shards):
            part = rows[number::shards]
            data = b"".join(frame_record(encode_example(row)) for row in part)
            name = str(ShardName("toy", split, number, shards))
            (folder / name).write_bytes(data)
            counts = tuple(sum(index in positives(row.label) for row in part) for index in range(len(classes)))
            crc = f"{google_crc32c.value(data):08x}"
            entries.append(Shard(name, len(data), hashlib.sha256(data).hexdigest(), len(part), counts, crc))
            written[split] += part
        splits[split] = tuple(entries)
    inputs = {"listed": start, "written": start, "quarantined": 0, "duplicates": 0, "skipped": 0}
    settings = ImageSettings(image_size=size)
    length = layout_of(settings.shape, None if kind == CLASS else len(classes)).record_bytes
    manifest = Manifest("toy", "1.0.0", 1, classes, settings, inputs, {}, {}, {}, splits, {}, kind, length)
    (folder / MANIFEST).write_text(manifest.to_json())
    return DataSet(folder, manifest, written)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., DataSet]:
    return lambda name="data", **settings: write_dataset(tmp_path / name, **settings)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """96, 40 and 30 examples of 64x64x1, easy to tell apart."""
    folder = tmp_path_factory.mktemp("shared") / "toy"
    return write_dataset(folder, {"train": 96, "validation": 40, "test": 30})


@pytest.fixture(scope="session")
def run(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of model1 on `dataset`, trained by the command."""
    output = tmp_path_factory.mktemp("runs") / "run"
    flags = ["--data", str(dataset.folder), "--output", str(output), "--recipe", "model1", "--epochs", "3"]
    assert run_command(train.main, [*flags, "--batch_size", "32"]) == 0
    return output


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with an exit code and one line on stderr, and gives that line."""

    def check(code: int, main: Callable[..., None], *argv: object) -> str:
        capsys.readouterr()
        assert run_command(main, [str(word) for word in argv]) == code
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert "unexpected" not in lines[0]
        return lines[0]

    return check
