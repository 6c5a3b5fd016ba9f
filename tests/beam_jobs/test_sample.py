import hashlib
import io
import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from beam_jobs import sample
from beam_jobs.phantom import Anatomy, draw_chest
from beam_jobs.sample import SampleConfig, encode_sample, plan_sample, write_sample
from schemas.errors import UsageError, run_command
from schemas.pixels.decode import decode
from schemas.pixels.settings import ImageSettings

SMALL = 24


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "new"
    write_sample(SampleConfig(str(folder), SMALL, seed=3), threads=1)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_threads(written: Path, tmp_path: Path) -> None:
    write_sample(SampleConfig(str(tmp_path), SMALL, seed=3), threads=5)
    assert digests(tmp_path) == digests(written)


def test_another_seed_gives_other_images() -> None:
    image = plan_sample(SMALL, 0)[0]
    assert encode_sample(image, 0) != encode_sample(image, 1)


def test_the_written_files_are_the_planned_ones(written: Path) -> None:
    files = {path for path in digests(written) if path != "README.txt"}
    assert files == {image.path for image in plan_sample(SMALL, 3)}
    assert sorted(path.name for path in written.iterdir()) == ["README.txt", "chest_xray"]


def test_the_sample_says_that_it_is_synthetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(sample.main, ["--output", str(tmp_path), "--images", "20"]) == 0
    assert "20 SYNTHETIC images (15 PNEUMONIA, 5 NORMAL)" in capsys.readouterr().out
    readme = (tmp_path / "README.txt").read_text()
    assert readme.startswith("SYNTHETIC IMAGES.")
    repeated = 20 - len(set(digests(tmp_path / "chest_xray").values()))
    assert f"{repeated} of the 20 files repeat" in readme


def test_600_images_are_divided_as_in_the_kermany_set() -> None:
    folders = Counter(image.folder.removeprefix("chest_xray/") for image in plan_sample(600, 0))
    assert folders == {
        "train/NORMAL": 130,
        "train/PNEUMONIA": 394,
        "val/NORMAL": 8,
        "val/PNEUMONIA": 8,
        "test/NORMAL": 18,
        "test/PNEUMONIA": 42,
    }


def test_600_images_come_in_every_format() -> None:
    formats = Counter(image.format for image in plan_sample(600, 0))
    assert set(formats) == {"gray", "rgb", "progressive", "png", "dicom"}
    assert formats["gray"] > 450
    assert min(formats.values()) >= 10


@pytest.mark.parametrize("images", [20, 21, 59, 100, 1000, 5856])
def test_any_count_fills_every_folder(images: int) -> None:
    plan = plan_sample(images, 7)
    assert len({image.path for image in plan}) == len(plan) == images
    assert len({image.folder for image in plan}) == 6
    assert sum(image.cause is not None for image in plan) == round(0.74 * images)


def test_names_look_like_those_of_the_kermany_set() -> None:
    patterns = {
        "NORMAL": r"(NORMAL2-)?IM-\d{4}-0001(-000[12])?\.(jpeg|png|dcm)",
        "PNEUMONIA": r"person\d+_(bacteria|virus)_\d+\.(jpeg|png|dcm)",
    }
    for image in plan_sample(600, 0):
        label, name = image.path.split("/")[-2:]
        assert re.fullmatch(patterns[label], name), name


def test_a_person_stays_in_one_split_and_numbers_start_again_in_test() -> None:
    plan = plan_sample(600, 0)
    numbers: dict[str, dict[str, set[int]]] = {"train": {}, "val": {}, "test": {}}
    for image in plan:
        if image.cause is not None:
            split = image.folder.split("/")[1]
            number = re.findall(r"\d+", image.stem)[0]
            numbers[split].setdefault(number, set()).add(image.person)
    assert all(len(persons) == 1 for split in numbers.values() for persons in split.values())
    assert not set(numbers["train"]) & set(numbers["val"])
    assert "1" in numbers["train"]
    assert "1" in numbers["test"]
    assert numbers["train"]["1"] != numbers["test"]["1"]
    images_of = Counter(image.person for image in plan)
    assert max(images_of.values()) == 5
    assert sum(count > 1 for count in images_of.values()) > 100


def test_duplicates_are_two_images_of_one_person() -> None:
    plan = plan_sample(600, 0)
    repeated = [(a, b) for a, b in itertools.pairwise(plan) if a.index == b.index]
    assert len(repeated) == len(plan) - len({image.index for image in plan}) == 4
    for first, second in repeated:
        assert replace(first, stem=second.stem) == second
        assert encode_sample(first, 0) == encode_sample(second, 0)


@pytest.mark.parametrize(
    ("format", "kind", "mode"),
    [("gray", "JPEG", "L"), ("rgb", "JPEG", "RGB"), ("progressive", "JPEG", "L"), ("png", "PNG", "L")],
)
def test_each_file_has_its_planned_format(format: str, kind: str, mode: str) -> None:
    image = Image.open(io.BytesIO(encode_sample(replace(plan_sample(SMALL, 0)[0], format=format), 0)))
    assert (image.format, image.mode) == (kind, mode)
    assert bool(image.info.get("progressive")) == (format == "progressive")
    pixels = np.asarray(image)
    assert pixels.ndim == 2 or (pixels == pixels[..., :1]).all()


def test_the_three_kinds_of_dicom_show_the_same_image_as_the_png() -> None:
    settings = ImageSettings()
    kinds = set()
    for image in plan_sample(SMALL, 0)[:3]:
        dicom = encode_sample(replace(image, format="dicom"), 0)
        header = pydicom.dcmread(io.BytesIO(dicom), stop_before_pixels=True)
        kinds.add((header.PhotometricInterpretation, header.BitsStored, "WindowWidth" in header))
        assert str(header.PatientName) == "SYNTHETIC^DRAWING"
        shown = decode(dicom, settings).pixels.astype(int)
        expected = decode(encode_sample(replace(image, format="png"), 0), settings).pixels.astype(int)
        assert np.abs(shown - expected).max() <= 3
    assert kinds == {("MONOCHROME2", 8, False), ("MONOCHROME2", 12, True), ("MONOCHROME1", 12, True)}


def test_every_file_decodes_and_sizes_are_in_range(written: Path) -> None:
    for path in digests(written / "chest_xray"):
        data = (written / "chest_xray" / path).read_bytes()
        assert decode(data, ImageSettings()).pixels.shape == (64, 64, 1)
        if path.endswith("dcm"):
            header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            size = (header.Columns, header.Rows)
        else:
            size = Image.open(io.BytesIO(data)).size
        assert min(size) >= 400
        assert max(size) <= 1600


def test_simple_statistics_do_not_separate_the_classes() -> None:
    plan = plan_sample(600, 0)
    chests = np.stack([drawn(image.cause, image.person, image.index) for image in plan])
    sick = [image.cause is not None for image in plan]
    assert chests.dtype == np.float32
    assert chests.min() >= 0
    assert chests.max() <= 1
    for name, value in {
        "mean": chests.mean((1, 2)),
        "median": np.median(chests, (1, 2)),
        "contrast": chests.std((1, 2)),
        "darkest tenth": np.percentile(chests, 10, (1, 2)),
        "dark share": (chests < 0.3).mean((1, 2)),
        "brightest tenth": np.percentile(chests, 90, (1, 2)),
    }.items():
        area = roc_auc_score(sick, value)
        assert 0.25 < area < 0.75, f"{name} alone reaches an area of {area:.2f}"


def drawn(cause: str | None, person: int, index: int) -> NDArray[np.floating[Any]]:
    anatomy = Anatomy.draw(np.random.default_rng((0, 2, person)))
    return draw_chest(anatomy, cause, (64, 64), np.random.default_rng((0, 1, index)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--images", "19"], "--images 19: give at least 20"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
        (["--output", "gs://bucket/raw"], "give a local folder"),
        (["--images", "many"], "invalid int value: 'many'"),
    ],
)
def test_bad_flags_give_one_error_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(sample.main, ["--output", str(tmp_path / "new"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_output_that_is_not_an_empty_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        SampleConfig(str(tmp_path))
    with pytest.raises(UsageError, match="not an empty folder"):
        SampleConfig(str(tmp_path / "mine.txt"))


def test_an_output_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make the folder"):
        write_sample(SampleConfig(str(tmp_path / "file" / "new"), 20))


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: sample.SampleImage, seed: int) -> bytes:
        raise OSError("no space left on device")

    monkeypatch.setattr(sample, "encode_sample", fail)
    with pytest.raises(OSError, match="no space"):
        write_sample(SampleConfig(str(tmp_path), 20))
    assert list(tmp_path.iterdir()) == []
