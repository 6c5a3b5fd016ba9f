"""`--retry_quarantine`: the new version equals a full conversion, and only the necessary images are read again."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result, files_of, labelled, manifest_of, write_images
from tests.gcs.bucket import Bucket
from tests.schemas.image_files import REJECTED

Convert = Callable[..., Result]
BROKEN = ("train/NORMAL/3.png", "train/PNEUMONIA/7.png", "val/NORMAL/0.png")
FLAGS = (
    "--shards",
    4,
    "--image_size",
    16,
    "--max_reject_fraction",
    0.5,
    "--group_pattern",
    r"(?P<pool>train|val|test)/(?P<group>NORMAL/1)\d",
)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Images, three of them broken, and also a mislabelled image, a DICOM report and a duplicate."""
    folder = write_images(tmp_path / "raw", labelled(20, "train", "val", "test"))
    for name in BROKEN:
        (folder / name).write_bytes((folder / name).read_bytes()[:-700])
    shutil.copy(folder / "train/NORMAL/1.png", folder / "train/NORMAL/copy.png")
    (folder / "train/NORMAL/named.jpg").write_bytes((folder / "train/NORMAL/2.png").read_bytes() + b"\n")
    (folder / "train/NORMAL/report.dcm").write_bytes(REJECTED["report.dcm"][0]())
    return folder


def repair(raw: Path, *names: str) -> None:
    for name in names:
        write_images(raw, {name: 1000 + BROKEN.index(name)})


def padded(raw: Path) -> list[Path]:
    """Appends line breaks to all images, so that each has a different size. Then no checksum is needed to tell them apart,
    and no image is read before the shards are written."""
    paths = sorted(raw.rglob("*.png"))
    for size, path in enumerate(paths, max(path.stat().st_size for path in paths) + 1):
        path.write_bytes(path.read_bytes().ljust(size, b"\n"))
    return paths


def test_the_new_version_equals_a_full_conversion(raw: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(raw, tmp_path / "1.0.0", *FLAGS).code == 0
    assert manifest_of(tmp_path / "1.0.0")["inputs"]["quarantined"] == 3
    old = files_of(tmp_path / "1.0.0")
    repair(raw, *BROKEN[:2])
    result = convert(raw, tmp_path / "2/1.1.0", "--retry_quarantine", tmp_path / "1.0.0", "--max_reject_fraction", 0.5)
    assert result.code == 0, result.err
    assert convert(raw, tmp_path / "full/1.1.0", *FLAGS).code == 0
    assert files_of(tmp_path / "2/1.1.0") == files_of(tmp_path / "full/1.1.0")
    assert manifest_of(tmp_path / "2/1.1.0")["inputs"]["quarantined"] == 1
    assert manifest_of(tmp_path / "2/1.1.0")["notes"]["mislabelled"] == 1
    assert manifest_of(tmp_path / "2/1.1.0")["skipped"] == {"structured_report": 1}
    assert files_of(tmp_path / "1.0.0") == old
    shutil.rmtree(tmp_path / "1.0.0")  # the new version does not need the old one, and can be retried as well
    repair(raw, BROKEN[2])
    result = convert(raw, tmp_path / "3", "--retry_quarantine", tmp_path / "2/1.1.0")
    assert result.code == 0, result.err
    assert convert(raw, tmp_path / "full3", *FLAGS).code == 0
    assert files_of(tmp_path / "3") == files_of(tmp_path / "full3")


def test_only_quarantined_images_are_read_again(raw: Path, tmp_path: Path, convert: Convert) -> None:
    padded(raw)
    assert convert(raw, tmp_path / "old", *FLAGS).code == 0
    repair(raw, *BROKEN)
    assert convert(raw, tmp_path / "full", *FLAGS).code == 0
    # A listing does not show this change, but the other images could no longer be converted.
    for path in raw.rglob("*.png"):
        if path.relative_to(raw).as_posix() not in BROKEN:
            info = path.stat()
            path.write_bytes(b"x" * info.st_size)
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    result = convert(raw, tmp_path / "new", "--retry_quarantine", tmp_path / "old", "--max_reject_fraction", 0)
    assert result.code == 0, result.err
    assert files_of(tmp_path / "new") == files_of(tmp_path / "full")


@pytest.mark.parametrize("change", ["replaced", "removed", "added", "repaired as a duplicate", "a new class"])
def test_anything_else_that_has_changed_is_converted_again(
    raw: Path, tmp_path: Path, convert: Convert, change: str
) -> None:
    assert convert(raw, tmp_path / "old", *FLAGS).code == 0
    repair(raw, BROKEN[0])
    if change == "replaced":
        write_images(raw, {"train/NORMAL/5.png": 555})
    elif change == "removed":
        (raw / "train/NORMAL/5.png").unlink()
    elif change == "added":
        write_images(raw, {f"train/NORMAL/added{n}.png": 600 + n for n in range(3)})
    elif change == "repaired as a duplicate":
        shutil.copy(raw / "train/PNEUMONIA/8.png", raw / BROKEN[1])
    else:
        write_images(raw, {"train/COVID/1.png": 700})
    result = convert(raw, tmp_path / "new", "--retry_quarantine", tmp_path / "old", "--max_reject_fraction", 0.5)
    assert result.code == 0, result.err
    assert convert(raw, tmp_path / "full", *FLAGS).code == 0
    assert files_of(tmp_path / "new") == files_of(tmp_path / "full")


def test_a_damaged_or_missing_old_shard_is_converted_again(raw: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(raw, tmp_path / "old", *FLAGS).code == 0
    shard = tmp_path / "old/cxr-train.tfrecord-00001-of-00004"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (tmp_path / "old/cxr-test.tfrecord-00000-of-00004").unlink()
    result = convert(raw, tmp_path / "new", "--retry_quarantine", tmp_path / "old", "--max_reject_fraction", 0.5)
    assert result.code == 0, result.err
    assert convert(raw, tmp_path / "full", *FLAGS).code == 0
    assert files_of(tmp_path / "new") == files_of(tmp_path / "full")


def test_a_quarantine_is_retried_in_place_with_overwrite(raw: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(raw, tmp_path / "data", *FLAGS).code == 0
    repair(raw, *BROKEN)
    refused = convert(raw, tmp_path / "data", "--retry_quarantine", tmp_path / "data")
    assert refused.code == 2
    assert "--overwrite" in refused.error
    result = convert(raw, tmp_path / "data", "--retry_quarantine", tmp_path / "data", "--overwrite")
    assert result.code == 0, result.err
    assert manifest_of(tmp_path / "data")["revision"] == 2
    assert manifest_of(tmp_path / "data")["inputs"]["quarantined"] == 0


def test_a_failed_retry_publishes_nothing_and_can_be_continued(raw: Path, tmp_path: Path, convert: Convert) -> None:
    assert convert(raw, tmp_path / "old", *FLAGS).code == 0
    failed = convert(raw, tmp_path / "new", "--retry_quarantine", tmp_path / "old")
    assert failed.code == 1
    assert "3 truncated" in failed.error
    assert not (tmp_path / "new/manifest.json").exists()
    repair(raw, *BROKEN)
    assert convert(raw, tmp_path / "new", "--retry_quarantine", tmp_path / "old").code == 0
    assert convert(raw, tmp_path / "full", *FLAGS).code == 0
    assert files_of(tmp_path / "new") == files_of(tmp_path / "full")


def test_flags_and_inputs_that_contradict_the_old_data_set_are_refused(
    raw: Path, tmp_path: Path, convert: Convert
) -> None:
    old = tmp_path / "old"
    assert convert(raw, old, *FLAGS).code == 0
    (tmp_path / "key").write_text("a key of some length")
    shutil.copytree(raw, tmp_path / "elsewhere")
    for source, dataset, flags, says in (
        (raw, old, ("--image_size", 32), "--image_size 32"),
        (raw, old, ("--seed", 1), "--seed 1"),
        (raw, old, ("--name", "other"), "--name other"),
        (raw, old, ("--include_source_uri",), "--include_source_uri True"),
        (raw, old, ("--id_key_file", tmp_path / "key"), "has unkeyed ids"),
        (tmp_path / "elsewhere", old, (), "with a different --input, --manifest, --id_key_file"),
        (raw, tmp_path, (), "is not a data set"),
    ):
        result = convert(source, tmp_path / "new", "--retry_quarantine", dataset, *flags)
        assert result.code == 2
        assert says in result.error
        assert not (tmp_path / "new").exists()
    result = convert(raw, tmp_path / "new", "--retry_quarantine", old, "--image_size", 16, "--dry_run")
    assert result.code == 0, result.err  # a flag with the same value is no conflict
    (old / "reuse.json").unlink()
    result = convert(raw, tmp_path / "new", "--retry_quarantine", f"{old}/", "--image_size", 16)
    assert result.code == 2
    assert "lacks reuse.json" in result.error


def test_keyed_ids_need_the_same_key(raw: Path, tmp_path: Path, convert: Convert) -> None:
    for name in ("key", "other"):
        (tmp_path / name).write_text(f"a {name} of some length")
    assert convert(raw, tmp_path / "old", *FLAGS, "--id_key_file", tmp_path / "key").code == 0
    repair(raw, *BROKEN)
    retry = (raw, tmp_path / "new", "--retry_quarantine", tmp_path / "old")
    for flags, says in (((), "has keyed ids"), (("--id_key_file", tmp_path / "other"), "with a different --input")):
        result = convert(*retry, *flags)
        assert result.code == 2
        assert says in result.error
    assert convert(*retry, "--id_key_file", tmp_path / "key").code == 0
    assert convert(raw, tmp_path / "full", *FLAGS, "--id_key_file", tmp_path / "key").code == 0
    assert files_of(tmp_path / "new") == files_of(tmp_path / "full")


def test_a_quarantine_is_retried_in_a_bucket(raw: Path, tmp_path: Path, bucket: Bucket, convert: Convert) -> None:
    bucket.upload_folder(raw, "raw")
    source = f"{bucket.uri}/raw"
    assert convert(source, f"{bucket.uri}/1.0.0", *FLAGS).code == 0
    repair(raw, *BROKEN)
    bucket.write({f"raw/{name}": (raw / name).read_bytes() for name in BROKEN})
    result = convert(source, f"{bucket.uri}/new/1.1.0", "--retry_quarantine", f"{bucket.uri}/1.0.0")
    assert result.code == 0, result.err
    assert convert(source, f"{bucket.uri}/full/1.1.0", *FLAGS).code == 0
    names = [name.removeprefix("new/") for name in bucket.names() if name.startswith("new/")]
    assert len(names) == len([name for name in bucket.names() if name.startswith("full/")])
    for name in names:
        assert bucket.read(f"new/{name}") == bucket.read(f"full/{name}"), name
    assert json.loads(bucket.read("new/1.1.0/manifest.json"))["inputs"]["quarantined"] == 0


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("overwrite", True, 1),
        ("dry_run", True, 1),
        ("max_reject_fraction", 1.0, 1),
        ("seed", "7", 2),
        ("limit", True, 2),
    ],
)
def test_the_old_manifest_sets_only_the_flags_that_shape_a_data_set(
    tmp_path: Path, convert: Convert, name: str, value: object, code: int
) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    for number in range(3):
        (raw / f"NORMAL/bad {number}.png").write_bytes(b"<html>%d" % number)
    assert convert(raw, tmp_path / "1.0.0", "--max_reject_fraction", 0.5).code == 0
    manifest = manifest_of(tmp_path / "1.0.0")
    manifest["settings"][name] = value
    (tmp_path / "1.0.0/manifest.json").write_text(json.dumps(manifest))
    result = convert(raw, tmp_path / "1.1.0", "--retry_quarantine", tmp_path / "1.0.0")
    assert result.code == code, result
    told = f"its manifest has an invalid {name} ({value!r})" if code == 2 else "3 of 23 images were rejected"
    assert told in result.error
    assert not (tmp_path / "1.1.0/manifest.json").exists()
