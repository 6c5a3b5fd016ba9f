"""Data sets whose images have several labels each, and how the commands handle them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_jobs import show, verify
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.example import encode_example, frame_record
from schemas.identity import pseudonym
from schemas.presets import PRESETS
from tests.beam_jobs.made import several_labels
from tests.beam_jobs.published_sets import chexpert
from tests.conftest import Result, labelled, manifest_of, write_images

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from beam_jobs.convert import main

    folder = tmp_path_factory.mktemp("several")
    raw, table, _ = several_labels(folder)
    main(["--input", str(raw), "--output", str(folder / "out"), "--manifest", str(table), "--shards", "1"])
    return folder / "out"


def test_records_hold_a_vector_and_the_manifest_says_so(dataset: Path) -> None:
    manifest = require_manifest(str(dataset))
    content = manifest_of(dataset)
    assert (content["label_kind"], content["classes"]) == ("multi_hot", ["A", "B", "C"])
    found = {e.id: e.label for split in manifest.splits for e in read_examples(str(dataset), manifest, split)}
    vectors = [(1, 0, 0), (1, 1, 0), (1, 0, 1), (0, 0, 0), (0, 0, 0), (1, 1, 1)]  # in the order of the cells
    assert found == {pseudonym("id", f"{n}.png"): vectors[n % 6] for n in range(30)}
    for split in manifest.splits:
        labels = [e.label for e in read_examples(str(dataset), manifest, split)]
        assert manifest.label_counts(split) == tuple(map(sum, zip(*labels, strict=True)))
        assert manifest.examples(split) == len(labels)
    assert content["inputs"]["written"] == 30


def test_verify_show_and_the_preview_handle_several_labels(dataset: Path, command: Command, tmp_path: Path) -> None:
    result = command(verify.main, dataset)
    assert result.code == 0, result.err
    assert "30 examples" in result.out
    result = command(show.main, dataset, "--count", 30, "--png", tmp_path / "sheet.png")
    assert result.code == 0, result.err
    labels = {line.split()[0]: line.split("  ")[2].strip() for line in result.out.splitlines()[2:-1]}
    texts = ["A", "A|B", "A|C", "No Finding", "No Finding", "A|B|C"]
    names = {pseudonym("id", f"{n}.png"): texts[n % 6] for n in range(30)}
    assert labels == {name: names[name] for name in labels}
    assert len(labels) == manifest_of(dataset)["splits"]["train"]["examples"]
    with Image.open(dataset / "preview.png") as sheet:
        assert sheet.height > 3 * 64  # one block per class


def test_a_label_of_another_kind_is_reported_as_damage(dataset: Path) -> None:
    manifest = require_manifest(str(dataset))
    (shard,) = manifest.shards("train")
    example = next(read_examples(str(dataset), manifest, "train"))
    other = dataset.parent / "other"
    other.mkdir(exist_ok=True)
    for label in (1, (1, 0), (2, 0, 0)):
        example = example.__class__(example.image, label, example.id, example.group)
        (other / shard.file).write_bytes(frame_record(encode_example(example)))
        assert f"record 0 has label {label}" in str(verify.check_shard(str(other), shard, manifest))


def test_a_converted_set_of_several_labels_can_be_trained(dataset: Path, command: Command, tmp_path: Path) -> None:
    from training.train import main

    result = command(main, "--data", dataset, "--recipe", "model1", "--output", tmp_path / "run", "--epochs", "1")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "run/config.json").read_text())["label_kind"] == "multi_hot"


def test_a_dry_run_counts_every_label_and_the_bytes_of_the_vectors(
    tmp_path: Path, convert: Command, dataset: Path
) -> None:
    result = convert(dataset.parent / "raw", tmp_path / "x", "--manifest", dataset.parent / "rows.csv", "--dry_run")
    assert result.code == 0, result.err
    for split, content in manifest_of(dataset)["splits"].items():
        labels = ", ".join(f"{name} {count}" for name, count in content["labels"].items())
        size = sum(shard["bytes"] for shard in content["shards"])
        assert f"{split:<11}{content['examples']:>11,} images ({labels}), 1 shards, {size:,} bytes" in result.out


def test_multi_label_can_be_set_if_no_image_has_two_labels(tmp_path: Path, convert: Command) -> None:
    raw = write_images(tmp_path / "raw", labelled(6))
    (raw / "No Finding").mkdir()
    write_images(raw, {"No Finding/1.png": 91, "No Finding/2.png": 92})
    flags = ("--multi_label", "--classes", "PNEUMONIA,NORMAL")
    assert convert(raw, tmp_path / "out", *flags).code == 0
    manifest = require_manifest(str(tmp_path / "out"))
    assert (manifest.label_kind, manifest.classes) == ("multi_hot", ("PNEUMONIA", "NORMAL"))
    found = {e.label for e in read_examples(str(tmp_path / "out"), manifest, "train")}
    assert found == {(1, 0), (0, 1), (0, 0)}


def test_a_label_outside_the_classes_is_named(tmp_path: Path, convert: Command, dataset: Path) -> None:
    raw, table = dataset.parent / "raw", dataset.parent / "rows.csv"
    result = convert(raw, tmp_path / "out", "--manifest", table, "--classes", "A,B")
    assert result.code == 1
    assert "has 10 image(s) of class 'C', but --classes has only A, B" in result.error
    folders = write_images(tmp_path / "raw", [*labelled(3), "No Finding/1.png"])
    result = convert(folders, tmp_path / "out", "--classes", "NORMAL,PNEUMONIA")
    assert result.code == 1
    assert "1 image(s) of class 'No Finding'" in result.error
    assert not (tmp_path / "out").exists()


def test_a_converted_set_of_uncertain_findings_can_be_shown_and_trained(
    tmp_path: Path, convert: Command, command: Command
) -> None:
    from training.runs.run_folder import read_history
    from training.train import main

    images = chexpert(tmp_path / "raw")
    flags = ("--preset", "chexpert", "--view", "all", "--image_size", 16)
    assert convert(tmp_path / "raw", tmp_path / "out", *flags).code == 0
    assert command(verify.main, tmp_path / "out").code == 0
    shown = command(show.main, tmp_path / "out", "--split", "train", "--count", 99).out
    uncertain = sum("-1.0" in told.cells.values() for told in images.values() if told.split == "train")
    assert sum("?" in line for line in shown.splitlines()) == uncertain > 0
    result = command(
        main, "--data", tmp_path / "out", "--recipe", "model1", "--output", tmp_path / "run", "--epochs", "1"
    )
    assert result.code == 0, result.err
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["label_kind"], tuple(config["classes"])) == ("multi_hot_uncertain", PRESETS["chexpert"].classes)
    (epoch,) = read_history(str(tmp_path / "run"))
    assert np.isfinite([epoch["loss"], epoch["val_loss"]]).all()
