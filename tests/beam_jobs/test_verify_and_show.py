"""Reading a data set back: `verify` names each kind of damage, and `show` shows records as they are."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from PIL import Image

from beam_jobs import show, verify
from beam_jobs.publish.preview import contact_sheet, reduced
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from tests.conftest import Result, labelled, manifest_of, write_images

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from beam_jobs.convert import main

    folder = tmp_path_factory.mktemp("verify")
    raw = write_images(folder / "raw", labelled(12, "train", "val"))
    main(["--input", str(raw), "--output", str(folder / "out"), "--shards", "2"])
    return folder / "out"


@pytest.fixture
def dataset(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def test_an_intact_data_set_verifies(dataset: Path, command: Command) -> None:
    result = command(verify.main, dataset)
    assert result.code == 0
    assert "is intact: 4 shards, 48 examples" in result.out


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut_at_record(path: Path) -> None:
    data = path.read_bytes()
    record = 12 + int.from_bytes(data[:8], "little") + 4
    path.write_bytes(data[:-record])


def swap(path: Path) -> None:
    other = path.with_name(path.name.replace("00000-of", "00001-of"))
    ours, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(ours)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, "has a wrong data checksum"),
        (cut_at_record, "examples instead of"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "is truncated"),
        (lambda path: path.write_bytes(b""), "0 bytes instead of"),
        (Path.unlink, "missing"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read (Is a directory)"),
        (swap, "SHA-256 differs from the manifest"),
    ],
    ids=["flipped", "cut at a record", "cut inside a record", "empty", "missing", "a folder", "swapped"],
)
def test_each_damaged_shard_is_named(
    dataset: Path, command: Command, damage: Callable[[Path], object], says: str
) -> None:
    name = "cxr-train.tfrecord-00000-of-00002"
    damage(dataset / name)
    result = command(verify.main, dataset)
    assert result.code == 1
    lines = [line for line in result.out.splitlines() if line.startswith(f"damaged: {name}: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert f"{2 if damage is swap else 1} of 4 shards in {dataset} are damaged" in result.error


def test_a_damaged_manifest_is_reported_in_one_line(dataset: Path, command: Command) -> None:
    path = dataset / "manifest.json"
    text = path.read_bytes()
    for damaged in (text[: len(text) // 2], b"", b"\xff\xfe" + text, text.replace(b'"bytes": ', b'"bytes": -')):
        path.write_bytes(damaged)
        result = command(verify.main, dataset)
        assert result.code == 2
        assert f"{path} is damaged" in result.error
    path.unlink()
    path.mkdir()
    result = command(verify.main, dataset)
    assert result.code == 2
    assert f"cannot read {path}: Is a directory" in result.error


def test_an_unlisted_shard_is_reported_but_is_not_damage(dataset: Path, command: Command) -> None:
    shutil.copy(dataset / "cxr-train.tfrecord-00000-of-00002", dataset / "cxr-train.tfrecord-00002-of-00003")
    result = command(verify.main, dataset)
    assert result.code == 0
    assert "not in the manifest: cxr-train.tfrecord-00002-of-00003" in result.out
    assert "is intact: 4 shards, 48 examples" in result.out


def test_a_folder_without_a_manifest_is_not_a_data_set(tmp_path: Path, command: Command) -> None:
    for main in (verify.main, show.main):
        result = command(main, tmp_path)
        assert result.code == 2
        assert "has no manifest.json" in result.error


def test_a_wrong_crc32c_in_the_manifest_is_damage(dataset: Path, command: Command) -> None:
    manifest = dataset / "manifest.json"
    content = json.loads(manifest.read_text())
    shard = content["splits"]["train"]["shards"][0]
    assert shard["crc32c"] == f"{google_crc32c.value((dataset / shard['file']).read_bytes()):08x}"
    shard["crc32c"] = "00000000"
    manifest.write_text(json.dumps(content))
    result = command(verify.main, dataset)
    assert result.code == 1
    assert f"damaged: {shard['file']}: its CRC32C differs" in result.out


def test_a_newer_manifest_is_refused(dataset: Path, command: Command) -> None:
    text = (dataset / "manifest.json").read_text()
    (dataset / "manifest.json").write_text(text.replace('"format_version": 3', '"format_version": 9'))
    result = command(verify.main, dataset)
    assert result.code == 2
    assert "format version 9" in result.error


def test_show_prints_records_and_writes_a_contact_sheet(dataset: Path, command: Command, tmp_path: Path) -> None:
    result = command(show.main, dataset, "--split", "val", "--count", 5, "--png", tmp_path / "sheet.png")
    assert result.code == 2  # only the names of published splits
    assert "it has train, validation" in result.error
    result = command(show.main, dataset, "--split", "validation", "--count", 5, "--png", tmp_path / "sheet.png")
    assert result.code == 0, result.err
    assert "5 of 24 examples, (64, 64, 1)" in result.out
    example = next(read_examples(str(dataset), require_manifest(str(dataset)), "validation"))
    line = next(line for line in result.out.splitlines() if line.startswith(example.id))
    name = manifest_of(dataset)["classes"][example.label]
    assert line.split() == [
        example.id,
        example.group,
        str(example.label),
        name,
        str(example.image.min()),
        f"{example.image.mean():.1f}",
        str(example.image.max()),
    ]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_show_refuses_invalid_flags(dataset: Path, command: Command) -> None:
    for flags, says in (
        (("--count", 0), "--count"),
        (("--split", "holdout"), "no split 'holdout'"),
        (("--png", dataset / "no/such/folder.png"), "cannot be written"),
    ):
        result = command(show.main, dataset, *flags)
        assert result.code == 2
        assert says in result.error


def test_large_images_are_reduced_on_a_contact_sheet() -> None:
    pixels = np.zeros((2048, 2048, 3), np.uint8)
    pixels[:1024, :, :] = 200
    small = reduced(pixels)
    assert small.shape == (256, 256, 1)
    assert (small[:127] == 200).all()
    assert not small[129:].any()
    with Image.open(io.BytesIO(contact_sheet({"A": [pixels] * 24}))) as sheet:
        assert sheet.width < 12 * 260
        assert sheet.height < 2 * 260 + 30
