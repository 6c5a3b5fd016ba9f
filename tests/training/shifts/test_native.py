"""Files by folder, and the examples that were made of the same images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.errors import UsageError
from tests.training.conftest import DataSet
from training.shifts.native import read_native, twins


@pytest.fixture
def folder(dataset: DataSet, tmp_path: Path) -> Path:
    """Four images of the data set as PNG, one of them noisy, two others, and files that are no such images."""
    for number, example in enumerate((*dataset.examples["train"][:3], dataset.examples["validation"][0])):
        place = tmp_path / "train" / dataset.manifest.classes[int(str(example.label))]
        place.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).normal(0, 4 if number == 1 else 0, (64, 64))
        pixels = np.clip(np.rint(example.image[..., 0] + noise), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    other = np.random.default_rng(1).integers(0, 120, (2, 64, 64), dtype=np.uint8)
    for number, pixels in enumerate(other):
        Image.fromarray(pixels).save(tmp_path / "train" / "NORMAL" / f"other{number}.png")
    (tmp_path / "train" / "NORMAL" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "train" / "NORMAL" / "list.csv").write_text("no image")
    (tmp_path / "train" / "SOMETHING").mkdir()
    Image.fromarray(other[0]).save(tmp_path / "train" / "SOMETHING" / "1.png")
    return tmp_path


def test_labels_come_from_folders_and_ids_from_the_content(dataset: DataSet, folder: Path) -> None:
    found = read_native(str(folder), dataset.manifest)
    assert found.skipped == {"no class": 1, "truncated": 1}
    same = twins(str(dataset.folder), dataset.manifest, found.examples.images)
    copied = (*dataset.examples["train"][:3], dataset.examples["validation"][0])
    expected = sorted((str(n), each.label, each.id) for n, each in enumerate(copied))
    names = sorted(path for path in folder.rglob("*.png") if path.parent.name != "SOMETHING" and path.stem != "cut")
    assert len(names) == len(same) == 6
    found_by_name = [
        (path.stem, label, id) for path, label, id in zip(names, found.examples.labels.tolist(), same, strict=True)
    ]
    assert sorted(each for each in found_by_name if each[2]) == expected
    assert [each[:2] for each in found_by_name if each[2] is None] == [("other0", 0), ("other1", 0)]


def test_a_folder_without_images_of_the_classes(dataset: DataSet, tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "1.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"--raw .* holds no image in a folder named NORMAL or PNEUMONIA"):
        read_native(str(tmp_path), dataset.manifest)
