"""Conversions of local files that fail, or that continue after a failure, as a user sees them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schemas.identity import pseudonym
from schemas.pixels.decode import decode
from schemas.pixels.settings import ImageSettings
from tests.beam_jobs.test_convert import examples_of
from tests.conftest import Result, labelled, manifest_of, write_images

Convert = Callable[..., Result]


def test_a_preset_refuses_an_unknown_class(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", [*labelled(3, "train", "test"), "train/COVID/person1_virus_1.png"])
    result = convert(raw, tmp_path / "out", "--preset", "kermany")
    assert result.code == 1
    assert "class 'COVID'" in result.error
    assert not (tmp_path / "out").exists()


def test_too_many_rejects_publish_nothing_and_the_next_run_continues(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10, "train", "val"))
    for n in range(4):
        (raw / f"train/NORMAL/{n}.png").write_bytes(b"no image at all, number %d" % n)
    result = convert(raw, tmp_path / "out")
    assert result.code == 1
    assert "4 of 40 images were rejected (4 not_an_image), more than --max_reject_fraction 0.01" in result.error
    assert f"they are listed in {tmp_path}/out/_work/r1/quarantine.jsonl" in result.error
    listed = (tmp_path / "out/_work/r1/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["uri"] for line in listed] == [str(raw / f"train/NORMAL/{n}.png") for n in range(4)]
    assert not list((tmp_path / "out").glob("cxr-*"))
    assert not (tmp_path / "out/manifest.json").exists()
    work = [path for path in (tmp_path / "out/_work/r1").glob("*.tfrecord-*") if path.suffix != ".json"]
    finished = {path.stem: path.stat().st_mtime_ns for path in work}
    assert finished
    assert convert(raw, tmp_path / "out", "--max_reject_fraction", 0.1).code == 0
    assert not (tmp_path / "out/_work").exists()
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished} == finished


def test_the_reject_fraction_is_applied_exactly(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(50), side=8)
    for number in range(8):
        (raw / f"NORMAL/{number}.png").write_bytes(b"")
    assert "8 of 100 images were rejected" in convert(raw, tmp_path / "out", "--max_reject_fraction", 0.07).error
    (raw / "NORMAL/7.png").write_bytes(write_images(tmp_path / "one", ["a.png"]).joinpath("a.png").read_bytes())
    assert convert(raw, tmp_path / "out", "--max_reject_fraction", 0.07).code == 0


def test_an_unfinished_conversion_is_not_mixed_with_another(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10, "train", "val"))
    (raw / "train/NORMAL/0.png").write_bytes(b"")
    assert convert(raw, tmp_path / "out", "--max_reject_fraction", 0).code == 1
    other = convert(raw, tmp_path / "out", "--image_size", 32)
    assert other.code == 2
    assert "unfinished conversion with other settings" in other.error
    write_images(raw, {"train/NORMAL/0.png": 77})  # its shard is written again, from the new bytes
    assert convert(raw, tmp_path / "out", "--max_reject_fraction", 0).code == 0
    pixels = decode((raw / "train/NORMAL/0.png").read_bytes(), ImageSettings()).pixels
    (found,) = (e for e in examples_of(tmp_path / "out")["train"] if e.id == pseudonym("id", "train/NORMAL/0.png"))
    assert np.array_equal(found.image, pixels)


def test_bad_inputs_give_one_error_line_and_leave_nothing(tmp_path: Path, convert: Convert) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_bytes(b"x")
    (tmp_path / "notes/NORMAL").mkdir(parents=True)
    (tmp_path / "notes/NORMAL/readme.txt").write_bytes(b"x")
    one_class = write_images(tmp_path / "one_class", [f"NORMAL/{n}.png" for n in range(3)])
    flat = write_images(tmp_path / "flat", ["1.png", "2.png"])
    for source, says in (
        (tmp_path / "absent", "does not exist"),
        (tmp_path / "empty", "contains no files"),
        (tmp_path / "file.png", "is a file"),
        (tmp_path / "notes", "contains no image to convert (1 not_an_image_name)"),
        (one_class, "only one class ('NORMAL')"),
        (flat, "contains no image to convert (2 not_in_a_class_folder)"),
    ):
        result = convert(source, tmp_path / "out")
        assert result.code == 2, source
        assert says in result.error
        assert str(source) in result.error
        assert not (tmp_path / "out").exists()
    inside = convert(one_class, one_class / "out")
    assert inside.code == 2
    assert "inside --input" in inside.error


def test_a_patient_in_two_given_splits_fails_the_job_before_anything_is_written(
    tmp_path: Path, convert: Convert
) -> None:
    raw = write_images(
        tmp_path / "raw", [*labelled(3, "train", "test"), "train/NORMAL/p1_1.png", "test/NORMAL/p1_2.png"]
    )
    result = convert(raw, tmp_path / "out", "--group_pattern", r"(p\d+)_")
    assert result.code == 1
    assert "'p1' is in train and test" in result.error or "'p1' is in validation and test" in result.error
    assert not (tmp_path / "out").exists()


def test_paths_without_a_patient_are_noted_and_a_pattern_without_a_match_is_refused(
    tmp_path: Path, convert: Convert
) -> None:
    raw = write_images(tmp_path / "raw", [f"{label}/{label}_p{n}_1.png" for label in "AB" for n in range(6)])
    write_images(raw, {"A/stray.png": 50, "B/other.png": 51})
    none = convert(raw, tmp_path / "out", "--group_pattern", r"(patient\d+)_")
    assert none.code == 2
    assert "matches no path" in none.error
    some = convert(raw, tmp_path / "out", "--group_pattern", r"([AB]_p\d+)_")
    assert some.code == 0
    assert "noted: 2 no_group_in_path" in some.out
    assert manifest_of(tmp_path / "out")["notes"] == {"no_group_in_path": 2}


def test_an_output_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    (tmp_path / "file").write_bytes(b"x")
    result = convert(raw, tmp_path / "file/out")
    assert result.code == 2
    assert "cannot be written" in result.error
    result = convert(raw, "gs://")
    assert result.code == 2
    assert "gs:// names no bucket; write gs://BUCKET/FOLDER" in result.error


def test_a_decoding_error_is_not_reported_as_a_write_error(
    tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_images(tmp_path / "raw", labelled(6))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    # No other test uses this number of decoders, so none of them is running yet.
    result = convert(raw, tmp_path / "out", "--decoders", 5)
    assert result.code == 1
    assert result.error == "error: the decoding process does not start: No such file or directory"
    assert not (tmp_path / "out").exists()
