"""Conversions of images that a CSV file lists."""

from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.identity import pseudonym
from tests.conftest import Result, manifest_of, write_images

Convert = Callable[..., Result]
NAMES = [f"scans/{n}.png" for n in range(12)]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_images(tmp_path / "raw", NAMES)


def write_csv(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_relative_and_absolute_uris_splits_and_groups_are_read(raw: Path, tmp_path: Path, convert: Convert) -> None:
    splits = ["TRAIN", "train", "VALIDATION", "val", "Test", "test"]
    rows = [
        f"{raw / name if n % 2 else name},{'ill' if n % 2 else 'well'},{splits[n // 2]},p{n // 2}"
        for n, name in enumerate(NAMES)
    ]
    manifest = write_csv(tmp_path / "rows.csv", "image_uri,label,split,group", rows)
    result = convert(raw, tmp_path / "out", "--manifest", manifest)
    assert result.code == 0, result.err
    found = require_manifest(str(tmp_path / "out"))
    assert found.classes == ("ill", "well")
    for split, numbers in (("train", range(4)), ("validation", range(4, 8)), ("test", range(8, 12))):
        examples = {e.id: e for e in read_examples(str(tmp_path / "out"), found, split)}
        assert set(examples) == {pseudonym("id", NAMES[n]) for n in numbers}
        for n in numbers:
            example = examples[pseudonym("id", NAMES[n])]
            assert example.label == found.classes.index("ill" if n % 2 else "well")
            assert example.group == pseudonym("group", f"/p{n // 2}")


def test_automl_rows_are_read_and_classes_keep_the_given_order(raw: Path, tmp_path: Path, convert: Convert) -> None:
    splits = ["TRAIN", "VALIDATION", "TEST"]
    labels = ["well", "ill", "odd", ""]
    rows = [f"{splits[n % 3]},{name},{labels[n // 3]}" for n, name in enumerate(NAMES)]
    manifest = write_csv(tmp_path / "rows.csv", rows[0], rows[1:])
    assert convert(raw, tmp_path / "out", "--manifest", manifest, "--classes", "well,odd,ill").code == 0
    content = manifest_of(tmp_path / "out")
    assert (content["classes"], content["label_kind"]) == (["well", "odd", "ill"], "class")
    assert content["skipped"] == {"unlabelled": 3}
    found = require_manifest(str(tmp_path / "out"))
    for split, first in (("train", 0), ("validation", 1), ("test", 2)):
        examples = {e.id: e.label for e in read_examples(str(tmp_path / "out"), found, split)}
        expected = {pseudonym("id", NAMES[first + 3 * place]): label for place, label in enumerate((0, 2, 1))}
        assert examples == expected


def test_column_order_quotes_and_a_byte_order_mark_do_not_matter(raw: Path, tmp_path: Path, convert: Convert) -> None:
    rows = [f'"a, b",{name}' if n % 2 else f'"c ""d""",{name}' for n, name in enumerate(NAMES)]
    manifest = write_csv(tmp_path / "rows.csv", "\ufefflabel,image_uri", rows)
    assert convert(raw, tmp_path / "out", "--manifest", manifest).code == 0
    assert manifest_of(tmp_path / "out")["classes"] == ["a, b", 'c "d"']


def test_unlabelled_rows_are_skipped_and_missing_files_are_quarantined(
    raw: Path, tmp_path: Path, convert: Convert
) -> None:
    rows = [f"{name},{'AB'[n % 2]}" for n, name in enumerate(NAMES)]
    rows[0] = f"{NAMES[0]},"
    rows.append("scans/gone.png,A")
    manifest = write_csv(tmp_path / "rows.csv", "image_uri,label", rows)
    assert convert(raw, tmp_path / "out", "--manifest", manifest).code == 0
    content = manifest_of(tmp_path / "out")
    assert content["inputs"] == {"listed": 13, "written": 11, "quarantined": 1, "duplicates": 0, "skipped": 1}
    assert content["quarantined"] == {"missing": 1}
    assert content["skipped"] == {"unlabelled": 1}


@pytest.mark.parametrize(
    ("header", "rows", "code", "says"),
    [
        ("uri,label", ["scans/0.png,A"], 2, "no column image_uri"),
        ("image_uri,class", ["scans/0.png,A"], 2, "no column label"),
        ("a,b", ["1,2"], 2, "no column image_uri and no column label"),
        ("image_uri,label", [], 2, "has no rows"),
        (
            "image_uri,label",
            ["scans/0.png,A", "scans/1.png,B", "scans/0.png,B"],
            1,
            "lines 2, 4 all name 'scans/0.png'",
        ),
        ("image_uri,label,split", ["scans/0.png,A,holdout", "scans/1.png,B,train"], 1, "line 2 has split 'holdout'"),
        ("image_uri,label", [",A", "scans/1.png,B"], 1, "line 2 names no image"),
        ("image_uri,label", ["scans/0.png,A", "scans/1.png,A"], 2, "only one class"),
    ],
)
def test_a_bad_manifest_is_reported_in_one_line(
    raw: Path, tmp_path: Path, convert: Convert, header: str, rows: list[str], code: int, says: str
) -> None:
    manifest = write_csv(tmp_path / "rows.csv", header, rows)
    result = convert(raw, tmp_path / "out", "--manifest", manifest)
    assert result.code == code
    assert says in result.error
    assert not (tmp_path / "out").exists()


def test_a_missing_or_binary_manifest_is_reported_in_one_line(raw: Path, tmp_path: Path, convert: Convert) -> None:
    missing = convert(raw, tmp_path / "out", "--manifest", tmp_path / "none.csv")
    assert missing.code == 2
    assert "does not exist" in missing.error
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80image_uri")
    binary = convert(raw, tmp_path / "out", "--manifest", tmp_path / "binary.csv")
    assert binary.code == 2
    assert "not CSV text" in binary.error


def test_a_leading_dot_in_a_path_does_not_change_the_id(raw: Path, tmp_path: Path, convert: Convert) -> None:
    rows = [f"{name},{'AB'[n % 2]}" for n, name in enumerate(NAMES)]
    for output, before in (("plain", ""), ("dotted", "./")):
        manifest = write_csv(tmp_path / f"{output}.csv", "image_uri,label", [before + row for row in rows])
        assert convert(raw, tmp_path / output, "--manifest", manifest).code == 0
    plain, dotted = ((tmp_path / output / "manifest.json").read_text() for output in ("plain", "dotted"))
    assert plain == dotted


@pytest.mark.parametrize("uri", ["http://somewhere/1.png", "s3://bucket/1.png"])
def test_a_row_with_an_unsupported_scheme_is_named(raw: Path, tmp_path: Path, convert: Convert, uri: str) -> None:
    rows = [f"{name},{'AB'[n % 2]}" for n, name in enumerate(NAMES)]
    manifest = write_csv(tmp_path / "rows.csv", "image_uri,label", [*rows, f"{uri},A"])
    result = convert(raw, tmp_path / "out", "--manifest", manifest)
    assert result.code == 1
    assert f"manifest line 14 has '{uri}'; only local and gs:// images are supported" in result.error
