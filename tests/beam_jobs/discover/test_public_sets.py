"""Public data sets are converted in the form in which they are published."""

from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.identity import pseudonym
from schemas.presets import PRESETS
from tests.beam_jobs.published_sets import NIH_HEADER, nih, rsna
from tests.conftest import Result, manifest_of, write_images

Convert = Callable[..., Result]


def test_nih14_images_get_their_labels_patients_and_official_splits(tmp_path: Path, convert: Convert) -> None:
    names = nih(tmp_path / "nih")
    write_images(tmp_path / "nih", {"images_002/images/99999999_000.png": 99})
    result = convert(tmp_path / "nih", tmp_path / "out", "--preset", "nih14")
    assert result.code == 0, result.err
    manifest = require_manifest(str(tmp_path / "out"))
    assert manifest.label_kind == "multi_hot"
    assert manifest.classes == PRESETS["nih14"].classes
    assert manifest.inputs["written"] == 30
    assert manifest.skipped == {"not_an_image_name": 3, "not_in_the_table": 1}
    found = {
        e.id: (split, e) for split in manifest.splits for e in read_examples(str(tmp_path / "out"), manifest, split)
    }
    for n, (name, label) in enumerate(names.items()):
        split, example = found[pseudonym("id", f"images_{1 + n // 15:03d}/images/{name}")]
        assert (split == "test") == (int(name[:8]) > 8)
        assert example.group == pseudonym("group", f"/{int(name[:8])}")
        assert isinstance(example.label, tuple)
        assert [manifest.classes[i] for i, one in enumerate(example.label) if one] == [
            part for part in label.split("|") if part != "No Finding"
        ]
    groups = {split: {e.group for s, e in found.values() if s == split} for split in manifest.splits}
    assert set(groups) == {"train", "validation", "test"}
    assert sum(map(len, groups.values())) == 10


def test_rsna_images_with_several_boxes_give_one_record(tmp_path: Path, convert: Convert) -> None:
    rsna(tmp_path / "rsna")
    assert convert(tmp_path / "rsna", tmp_path / "two", "--preset", "rsna").code == 0
    content = manifest_of(tmp_path / "two")
    assert content["classes"] == ["NORMAL", "PNEUMONIA"]
    assert content["inputs"] == {"listed": 14, "written": 12, "quarantined": 0, "duplicates": 0, "skipped": 2}
    totals = [sum(split["labels"][name] for split in content["splits"].values()) for name in content["classes"]]
    assert totals == [6, 6]
    manifest = require_manifest(str(tmp_path / "two"))
    for split in manifest.splits:
        for example in read_examples(str(tmp_path / "two"), manifest, split):
            patients = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(12)]
            (n,) = (n for n, patient in enumerate(patients) if pseudonym("group", f"/{patient}") == example.group)
            assert example.label == n % 2
            assert example.id == pseudonym("id", f"stage_2_train_images/{patients[n]}.dcm")
    assert convert(tmp_path / "rsna", tmp_path / "three", "--preset", "rsna3").code == 0
    splits = manifest_of(tmp_path / "three")["splits"].values()
    totals = [sum(split["labels"][name] for split in splits) for name in PRESETS["rsna3"].classes]
    assert totals == [3, 3, 6]


def test_rsna_targets_0_and_1_can_get_other_class_names(tmp_path: Path, convert: Convert) -> None:
    rsna(tmp_path / "rsna")
    moved = tmp_path / "labels of mine.csv"
    (tmp_path / "rsna/stage_2_train_labels.csv").rename(moved)
    flags = ("--preset", "rsna", "--manifest", moved, "--classes", "well,ill")
    assert convert(tmp_path / "rsna", tmp_path / "out", *flags).code == 0
    assert manifest_of(tmp_path / "out")["classes"] == ["well", "ill"]
    result = convert(tmp_path / "rsna", tmp_path / "other", "--preset", "rsna", "--classes", "a,b,c")
    assert result.code == 2
    assert "--preset rsna needs 2 classes, for Target 0 and 1" in result.error


def test_a_missing_or_contradictory_table_is_reported_in_one_line(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "nih", ["images/00000001_000.png", "a/00000002_000.png", "b/00000002_000.png"])
    result = convert(raw, tmp_path / "out", "--preset", "nih14")
    assert result.code == 2
    assert "needs Data_Entry_2017.csv or Data_Entry_2017_v2020.csv in --input" in result.error
    table = raw / "Data_Entry_2017_v2020.csv"
    table.write_text(
        f"{NIH_HEADER}\n00000001_000.png,Mass,0,1\n00000001_000.png,Edema,0,1\n00000002_000.png,Mass,0,2\n"
    )
    result = convert(raw, tmp_path / "out", "--preset", "nih14")
    assert result.code == 1
    assert "manifest lines 2, 3 disagree about '00000001_000.png'" in result.error
    assert "'00000002_000.png' matches both 'a/00000002_000.png' and 'b/00000002_000.png'" in result.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("classes", "says"),
    [("A", "at least two"), ("A,A", "different"), ("A,", "at least two different"), ("A|B,C", "'A|B' is not a class")],
)
def test_invalid_classes_are_reported_in_one_line(tmp_path: Path, convert: Convert, classes: str, says: str) -> None:
    raw = write_images(tmp_path / "raw", ["A/1.png", "B/2.png"])
    result = convert(raw, tmp_path / "out", "--classes", classes)
    assert result.code == 2
    assert says in result.error
