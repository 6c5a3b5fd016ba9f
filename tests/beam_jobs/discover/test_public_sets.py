"""Public data sets are converted in the form in which they are published."""

import gzip
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.identity import pseudonym
from schemas.presets import PRESETS
from tests.beam_jobs.published_sets import (
    CHEXPERT_FINDINGS,
    NIH_HEADER,
    Published,
    chexpert,
    mimic,
    nih,
    read_gzip,
    rsna,
    write_gzip,
)
from tests.conftest import Result, files_of, manifest_of, write_images

Convert = Callable[..., Result]

SPLITS = {"train": "train", "valid": "validation", "validate": "validation", "test": "test"}


def check(
    output: Path,
    images: Mapping[str, Published],
    uncertain: int = 2,
    classes: tuple[str, ...] = PRESETS["chexpert"].classes,
) -> None:
    """Compares every record of a data set with what the published tables say about its image. `uncertain`: the value
    of uncertain findings."""
    manifest = require_manifest(str(output))
    assert manifest.classes == classes
    values = {"": 0, "0.0": 0, "1.0": 1, "-1.0": uncertain}
    expected = {
        (
            SPLITS[told.split],
            pseudonym("id", path),
            pseudonym("group", f"/{told.patient}"),
            tuple(values[told.cells[name]] for name in manifest.classes),
        )
        for path, told in images.items()
    }
    found = [(s, e.id, e.group, e.label) for s in manifest.splits for e in read_examples(str(output), manifest, s)]
    assert len(found) == len(expected)
    assert set(found) == expected


def of_view(images: Mapping[str, Published], *views: str) -> dict[str, Published]:
    return {path: told for path, told in images.items() if told.view in views}


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


@pytest.mark.parametrize(
    ("inside", "named"),
    [("", "CheXpert-v1.0-small"), ("CheXpert-v1.0-small", "CheXpert-v1.0-small"), ("CheXpert-v1.0", "CheXpert-v1.0")],
)
def test_chexpert_images_get_their_findings_patients_and_splits(
    tmp_path: Path, convert: Convert, inside: str, named: str
) -> None:
    images = chexpert(tmp_path / "raw", inside, named)
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "chexpert", "--shards", 2)
    assert result.code == 0, result.err
    frontal = of_view(images, "frontal")
    check(tmp_path / "out", frontal)
    content = manifest_of(tmp_path / "out")
    assert content["label_kind"] == "multi_hot_uncertain"
    assert content["skipped"] == {"lateral_view": len(images) - len(frontal), "not_an_image_name": 2}
    assert (content["settings"]["uncertain"], content["settings"]["view"]) == ("mask", "frontal")
    for name, data in files_of(tmp_path / "out").items():  # nothing else of the tables, and no patient
        assert not [word for word in (b"Female", b"patient0", b"view1") if word in data], name


def test_chexpert_is_found_in_the_folders_of_its_batches(tmp_path: Path, convert: Convert) -> None:
    images = chexpert(tmp_path / "raw", "CheXpert-v1.0 batch 1 (validate & csv)", "CheXpert-v1.0")
    first, moved = tmp_path / "raw/CheXpert-v1.0 batch 1 (validate & csv)", {}
    (first / "train").rename(tmp_path / "raw/CheXpert-v1.0 batch 2 (train 1)")
    for path, told in of_view(images, "frontal").items():
        moved[path.replace("batch 1 (validate & csv)/train", "batch 2 (train 1)")] = told
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "chexpert")
    assert result.code == 0, result.err
    check(tmp_path / "out", moved)


@pytest.mark.parametrize(
    ("uncertain", "value", "view"), [("mask", 2, "lateral"), ("zero", 0, "all"), ("one", 1, "all")]
)
def test_uncertain_findings_and_views_follow_the_flags(
    tmp_path: Path, convert: Convert, uncertain: str, value: int, view: str
) -> None:
    images = chexpert(tmp_path / "raw")
    flags = ("--preset", "chexpert", "--uncertain", uncertain, "--view", view)
    result = convert(tmp_path / "raw", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    check(tmp_path / "out", images if view == "all" else of_view(images, view), value)
    kind = "multi_hot_uncertain" if uncertain == "mask" else "multi_hot"
    assert manifest_of(tmp_path / "out")["label_kind"] == kind


def test_no_finding_is_a_class_if_it_is_asked_for(tmp_path: Path, convert: Convert) -> None:
    images = chexpert(tmp_path / "raw")
    flags = ("--preset", "chexpert", "--view", "all", "--classes", CHEXPERT_FINDINGS)
    assert convert(tmp_path / "raw", tmp_path / "out", *flags).code == 0
    check(tmp_path / "out", images, classes=tuple(CHEXPERT_FINDINGS.split(",")))
    result = convert(tmp_path / "raw", tmp_path / "few", "--preset", "chexpert", "--classes", "Edema,Pneumonia")
    assert result.code == 1
    number = sum(told.cells["Atelectasis"] in ("1.0", "-1.0") for told in of_view(images, "frontal").values())
    assert f"has {number} image(s) of class 'Atelectasis', but --classes has only Edema, Pneumonia" in result.error


def test_a_new_version_keeps_view_and_uncertainty(tmp_path: Path, convert: Convert) -> None:
    images = chexpert(tmp_path / "raw")
    lateral = of_view(images, "lateral")
    broken = tmp_path / "raw" / next(iter(lateral))
    whole = broken.read_bytes()
    broken.write_bytes(whole[:300])
    flags = ("--preset", "chexpert", "--uncertain", "one", "--view", "lateral")
    assert convert(tmp_path / "raw", tmp_path / "1.0.0", *flags).code == 0
    assert manifest_of(tmp_path / "1.0.0")["inputs"]["quarantined"] == 1
    broken.write_bytes(whole)
    result = convert(tmp_path / "raw", tmp_path / "1.1.0", "--retry_quarantine", tmp_path / "1.0.0")
    assert result.code == 0, result.err
    check(tmp_path / "1.1.0", lateral, 1)


def test_naming_the_defaults_changes_no_byte(tmp_path: Path, convert: Convert) -> None:
    chexpert(tmp_path / "raw")
    assert convert(tmp_path / "raw", tmp_path / "a", "--preset", "chexpert").code == 0
    flags = ("--preset", "chexpert", "--uncertain", "mask", "--view", "frontal")
    assert convert(tmp_path / "raw", tmp_path / "b", *flags).code == 0
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize("view", ["frontal", "lateral", "all"])
def test_mimic_cxr_images_get_the_findings_of_their_study(tmp_path: Path, convert: Convert, view: str) -> None:
    images = mimic(tmp_path / "raw")
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "mimic-cxr", "--view", view)
    assert result.code == 0, result.err
    kept = {"frontal": ("PA", "AP"), "lateral": ("LATERAL", "LL"), "all": ("PA", "AP", "LATERAL", "LL", "", "AP AXIAL")}
    check(tmp_path / "out", of_view(images, *kept[view]))
    skipped = {
        "not_an_image_name": 3,
        "frontal_view": len(of_view(images, "PA", "AP")),
        "lateral_view": len(of_view(images, "LATERAL", "LL")),
        "other_view": len(of_view(images, "", "AP AXIAL")),
    }
    left_out = ("frontal_view", "lateral_view", "other_view")
    gone = {f"{view}_view"} if view != "all" else set(left_out)
    assert manifest_of(tmp_path / "out")["skipped"] == {k: n for k, n in skipped.items() if k not in gone}


def test_the_tables_of_mimic_cxr_may_be_elsewhere_and_unpacked(tmp_path: Path, convert: Convert) -> None:
    images = mimic(tmp_path / "raw")
    (tmp_path / "tables").mkdir()
    for packed in (tmp_path / "raw").glob("*.gz"):
        (tmp_path / "tables" / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    (tmp_path / "tables/mimic-cxr-2.0.0-chexpert.csv").rename(tmp_path / "tables/mimic-cxr-2.0.0-negbio.csv")
    table = tmp_path / "tables/mimic-cxr-2.0.0-negbio.csv"
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "mimic-cxr", "--manifest", table)
    assert result.code == 0, result.err
    check(tmp_path / "out", of_view(images, "PA", "AP"))


def test_images_and_rows_without_a_partner_are_accounted_for(tmp_path: Path, convert: Convert) -> None:
    images = mimic(tmp_path / "raw")
    frontal = list(of_view(images, "PA", "AP"))
    lost, unlisted, unlabelled, blank = (frontal[n] for n in (0, 3, 6, 9))
    (tmp_path / "raw" / lost).unlink()
    write_images(tmp_path / "raw", {"files/p19/p19999999/s59999999/0-0-0-0-0.jpg": 9999})
    splits, labels = (tmp_path / f"raw/mimic-cxr-2.0.0-{name}.csv.gz" for name in ("split", "chexpert"))
    write_gzip(splits, [row for row in read_gzip(splits) if Path(unlisted).stem not in row])
    study, blanked = (Path(path).parent.name.removeprefix("s") for path in (unlabelled, blank))
    rows = [row for row in read_gzip(labels) if f",{study}," not in row]
    rows = [f"{row.split(',')[0]},{blanked}{',' * 14}" if f",{blanked}," in row else row for row in rows]
    write_gzip(labels, [*rows, f"19999998,59999998{',1.0' * 14}"])
    flags = ("--preset", "mimic-cxr", "--view", "all", "--max_reject_fraction", 1)
    result = convert(tmp_path / "raw", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    silent = {path for path in images if Path(path).parent.name in (f"s{study}", f"s{blanked}")}
    check(tmp_path / "out", {p: told for p, told in images.items() if p not in {*silent, lost, unlisted}})
    content = manifest_of(tmp_path / "out")
    assert content["quarantined"] == {"missing": 1}
    assert content["skipped"] == {
        "not_an_image_name": 3,
        "not_in_the_table": 2,
        "study_without_image": 1,
        "unlabelled": len(silent),
    }
    assert content["inputs"]["listed"] == len(images) + 3 + 1 + 1


def test_damaged_tables_of_findings_fail_in_one_line(tmp_path: Path, convert: Convert) -> None:
    chexpert(tmp_path / "raw")
    train, valid = (tmp_path / f"raw/{name}.csv" for name in ("train", "valid"))
    text, lines = train.read_text(), train.read_text().splitlines()
    first, of_valid = "patient00001/study1/view1_frontal.jpg", valid.read_text().splitlines()[1]
    assert first in lines[1]
    other = ",".join([*lines[1].split(",")[:5], *["1.0"] * 14])
    moved = of_valid.split(",")[0].split("/valid/")[1]
    for table, code, says in (
        (text.replace("Pleural Other", "Other"), 2, "train.csv has no column Pleural Other"),
        (lines[0] + "\n", 2, "train.csv has no rows"),
        (text.replace("-1.0", "-2", 1), 1, "is not 1, 0, -1 or empty"),
        (text[:-20], 1, f"cut off: line {len(lines)} ends before"),
        (f"{text}{other}\n", 1, f"train.csv lines 2, {len(lines) + 1} disagree about '{first}'; keep the right one"),
        (f"{text}{of_valid}\n", 1, f"train.csv line {len(lines) + 1} and valid.csv line 2 disagree about '{moved}'"),
        (f"{text},Male,20,Frontal,AP{',' * 14}\n", 1, f"train.csv line {len(lines) + 1} names no image"),
    ):
        train.write_text(table)
        result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "chexpert")
        assert (result.code, says in result.error) == (code, True), result.error
        assert "Male" not in result.error
        assert not (tmp_path / "out").exists()
    train.write_text(f"{text}{lines[1]}\n")  # an equal row says nothing new
    assert convert(tmp_path / "raw", tmp_path / "out", "--preset", "chexpert").code == 0


def test_a_missing_or_second_part_of_chexpert_is_named(tmp_path: Path, convert: Convert) -> None:
    chexpert(tmp_path / "raw", "CheXpert-v1.0-small")
    shutil.copytree(tmp_path / "raw/CheXpert-v1.0-small/valid", tmp_path / "raw/CheXpert-v1.0/valid")
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "chexpert")
    assert result.code == 1
    name = "patient00011/study1/view1_frontal.jpg"
    one, two = (f"'CheXpert-v1.0{size}/valid/{name}'" for size in ("-small", ""))
    assert f"'{name}' matches both {one} and {two}; keep one" in result.error
    (tmp_path / "raw/CheXpert-v1.0-small/valid.csv").unlink()
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "chexpert")
    assert result.code == 2
    assert f"--preset chexpert needs valid.csv beside {tmp_path}/raw/CheXpert-v1.0-small/train.csv" in result.error
    (tmp_path / "raw/CheXpert-v1.0-small/train.csv").unlink()
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "chexpert")
    assert "--preset chexpert needs train.csv or CheXpert-v1.0-small/train.csv or" in result.error


def test_damaged_tables_of_studies_fail_in_one_line(tmp_path: Path, convert: Convert) -> None:
    mimic(tmp_path / "raw")
    labels, splits = (tmp_path / f"raw/mimic-cxr-2.0.0-{name}.csv.gz" for name in ("chexpert", "split"))
    packed, rows, split_rows = labels.read_bytes(), read_gzip(labels), read_gzip(splits)
    subject, study, *cells = rows[1].split(",")
    image = split_rows[1].split(",")[0]
    labels.write_bytes(packed[:-30])
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "mimic-cxr")
    assert f"{labels} is not a complete gzip file; fetch it again" in result.error
    write_gzip(labels, [*rows, ",".join([subject, study, *("0.0" if cell == "1.0" else "1.0" for cell in cells)])])
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "mimic-cxr")
    assert result.code == 1
    assert f"{labels.name} lines 2, {len(rows) + 1} disagree about '{study}'; keep the right one" in result.error
    labels.write_bytes(packed)
    write_gzip(splits, [*split_rows, split_rows[1].replace("train", "test")])
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "mimic-cxr")
    assert result.code == 1
    assert f"{splits.name} lines 2, {len(split_rows) + 1} " in result.error
    assert f"disagree about '{image}.jpg'; keep the right one" in result.error
    splits.unlink()
    result = convert(tmp_path / "raw", tmp_path / "out", "--preset", "mimic-cxr")
    assert result.code == 2
    assert f"needs {splits.name} or {splits.stem} beside {labels}" in result.error
    assert not (tmp_path / "out").exists()
