"""The conversion of local files, as a user runs it."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_jobs import verify
from beam_jobs.convert import main
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.dataset import OUTCOMES
from schemas.errors import run_command
from schemas.example import Example
from schemas.identity import pseudonym
from schemas.pixels.decode import decode
from schemas.pixels.settings import ImageSettings
from tests.conftest import Result, convert_command, files_of, labelled, manifest_of, write_images

Convert = Callable[..., Result]

PUBLISHED = {"manifest.json", "dataset_info.json", "features.json", "label.labels.txt", "schema.pbtxt"} | {
    "quarantine.jsonl",
    "leakage.json",
    "reuse.json",
    "preview.png",
    "dataset.html",
}


def examples_of(folder: Path) -> dict[str, list[Example]]:
    manifest = require_manifest(str(folder))
    return {split: list(read_examples(str(folder), manifest, split)) for split in manifest.splits}


def accounted(folder: Path) -> dict[str, int]:
    inputs: dict[str, int] = manifest_of(folder)["inputs"]
    assert inputs["listed"] == sum(inputs[outcome] for outcome in OUTCOMES)
    return inputs


def test_records_match_a_plain_computation_for_each_file(tmp_path: Path, convert: Convert) -> None:
    names = [
        f"{split}/{label}/{n}{suffix}"
        for split in ("train", "val", "test")
        for label in ("NORMAL", "PNEUMONIA")
        for n, suffix in enumerate((".png", ".jpeg", ".bmp", ".tif", ".webp"))
    ]
    raw = write_images(tmp_path / "raw", names)
    result = convert(raw, tmp_path / "out", "--image_size", 16, "--shards", 2)
    assert result.code == 0, result.err
    assert "30 listed = 30 written + 0 quarantined + 0 duplicates + 0 skipped" in result.out
    found = {example.id: (split, example) for split, all_ in examples_of(tmp_path / "out").items() for example in all_}
    assert len(found) == 30
    for name in names:
        split, example = found[pseudonym("id", name)]
        assert split == {"train": "train", "val": "validation", "test": "test"}[name.split("/")[0]]
        assert example.label == ["NORMAL", "PNEUMONIA"].index(name.split("/")[1])
        assert example.group == pseudonym("group", name)
        plain = decode((raw / name).read_bytes(), ImageSettings(image_size=16)).pixels
        assert np.array_equal(example.image, plain)
    shards = {shard["file"] for split in manifest_of(tmp_path / "out")["splits"].values() for shard in split["shards"]}
    assert {p.name for p in (tmp_path / "out").iterdir()} == shards | PUBLISHED


def test_every_file_has_exactly_one_outcome(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(20))
    shutil.copy(raw / "NORMAL/3.png", raw / "NORMAL/zz copy.png")
    (raw / "NORMAL/broken.png").write_bytes((raw / "NORMAL/1.png").read_bytes()[:300])
    (raw / "NORMAL/empty.png").write_bytes(b"")
    (raw / "NORMAL/page.jpg").write_bytes(b"<html><body>404</body></html>")
    shutil.copy(raw / "NORMAL/5.png", raw / "NORMAL/wrong suffix.jpg")
    (raw / "NORMAL/wrong suffix.jpg").write_bytes((raw / "NORMAL/5.png").read_bytes() + b"\n")
    for skipped in (".DS_Store", "notes.txt", "outside.png"):
        (raw / ("" if skipped == "outside.png" else "NORMAL") / skipped).write_bytes(b"anything")
    (raw / "__MACOSX/NORMAL").mkdir(parents=True)
    (raw / "__MACOSX/NORMAL/._1.png").write_bytes(b"anything")
    result = convert(raw, tmp_path / "out", "--max_reject_fraction", 0.2)
    assert result.code == 0, result.err
    inputs = accounted(tmp_path / "out")
    assert inputs == {"listed": 49, "written": 41, "quarantined": 3, "duplicates": 1, "skipped": 4}
    manifest = manifest_of(tmp_path / "out")
    assert manifest["quarantined"] == {"empty": 1, "not_an_image": 1, "truncated": 1}
    assert manifest["skipped"] == {"hidden": 1, "macos_metadata": 1, "not_an_image_name": 1, "not_in_a_class_folder": 1}
    assert manifest["notes"] == {"mislabelled": 1}
    lines = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert [Path(line["uri"]).name for line in lines] == ["broken.png", "empty.png", "page.jpg"]
    assert set(lines[0]) == {"uri", "checksum", "size", "stage", "reason", "detail", "format"}


def test_groups_stay_in_one_split_and_the_fractions_are_met(tmp_path: Path, convert: Convert) -> None:
    names = [f"{label}/person{n}_{k}.png" for label in ("NORMAL", "PNEUMONIA") for n in range(20) for k in range(3)]
    names = [name.replace("person", "p" if name.startswith("NORMAL") else "q") for name in names]
    raw = write_images(tmp_path / "raw", names, side=8)
    flags = ("--group_pattern", r"/([pq]\d+)_", "--validation_fraction", 0.2, "--test_fraction", 0.1)
    assert convert(raw, tmp_path / "out", *flags).code == 0
    splits = examples_of(tmp_path / "out")
    groups = {split: {example.group for example in examples} for split, examples in splits.items()}
    assert {split: len(found) for split, found in groups.items()} == {"train": 28, "validation": 8, "test": 4}
    assert {split: len(found) for split, found in splits.items()} == {"train": 84, "validation": 24, "test": 12}
    assert not groups["train"] & groups["validation"]
    assert not (groups["train"] | groups["validation"]) & groups["test"]


def test_the_kermany_preset_merges_val_and_leaves_test_unchanged(tmp_path: Path, convert: Convert) -> None:
    names: dict[str, int] = {}
    for split, people in (("train", 12), ("val", 2), ("test", 4)):
        for n in range(people):
            first = 0 if split != "val" else 50
            names[f"chest_xray/{split}/NORMAL/IM-{first + n:04d}-0001.jpeg"] = len(names)
            names[f"chest_xray/{split}/PNEUMONIA/person{first + n}_virus_1.jpeg"] = len(names)
            names[f"chest_xray/{split}/PNEUMONIA/person{first + n}_bacteria_2.jpeg"] = len(names)
    raw = write_images(tmp_path / "raw", names)
    assert convert(raw, tmp_path / "out", "--preset", "kermany").code == 0
    manifest = manifest_of(tmp_path / "out")
    assert manifest["classes"] == ["NORMAL", "PNEUMONIA"]
    assert manifest["splits"]["test"]["labels"] == {"NORMAL": 4, "PNEUMONIA": 8}
    assert sum(manifest["splits"][split]["examples"] for split in ("train", "validation")) == 14 * 3
    ids = {example.id for example in examples_of(tmp_path / "out")["test"]}
    assert ids == {pseudonym("id", name) for name in names if "/test/" in name}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder of images, and the files of the data set that a conversion without special flags makes of it."""
    folder = tmp_path_factory.mktemp("plain")
    raw = write_images(folder / "raw", labelled(20, suffix=".jpeg"))
    assert run_command(main, ["--input", str(raw), "--output", str(folder / "out"), "--shards", "3"]) == 0
    return raw, files_of(folder / "out")


@pytest.mark.parametrize(
    "flags",
    [
        ("--threads", 1),
        ("--threads", 8),
        ("--runner", "DirectRunner"),
        ("--direct_running_mode", "multi_threading", "--direct_num_workers", 2),
        # The launcher takes this for a remote runner, but its server and its workers are in this process.
        ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"),
    ],
)
def test_shards_do_not_depend_on_threads_or_runners(
    tmp_path: Path, convert: Convert, plain: tuple[Path, dict[str, bytes]], flags: tuple[object, ...]
) -> None:
    raw, files = plain
    assert convert(raw, tmp_path / "out", "--shards", 3, *flags).code == 0
    assert files_of(tmp_path / "out") == files


def test_worker_processes_give_the_same_bytes(tmp_path: Path, plain: tuple[Path, dict[str, bytes]]) -> None:
    raw, files = plain
    # In a subprocess, because Beam's worker processes are not meant to be started from pytest's process.
    done = subprocess.run(
        convert_command(
            raw, tmp_path / "out", "--shards", 3, "--direct_running_mode=multi_processing", "--direct_num_workers=2"
        ),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "out") == files


def test_the_seed_changes_the_splits_but_not_the_ids(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(30), side=8)
    for seed in (0, 1):
        assert convert(raw, tmp_path / str(seed), "--seed", seed).code == 0
    ids = [
        {split: {e.id for e in found} for split, found in examples_of(tmp_path / str(seed)).items()} for seed in (0, 1)
    ]
    assert ids[0]["train"] != ids[1]["train"]
    assert ids[0]["train"] | ids[0]["validation"] == ids[1]["train"] | ids[1]["validation"]


def test_a_dry_run_reports_what_would_be_written_and_writes_nothing(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10, "train", "val"))
    result = convert(raw, tmp_path / "out", "--dry_run", "--shards", 2, "--limit", 30)
    assert result.code == 0, result.err
    assert not (tmp_path / "out").exists()
    assert "30 to convert + 0 duplicates + 10 skipped (10 not_sampled)" in result.out
    assert convert(raw, tmp_path / "out", "--shards", 2, "--limit", 30).code == 0
    for split, content in manifest_of(tmp_path / "out")["splits"].items():
        classes = ", ".join(f"{name} {count}" for name, count in content["labels"].items())
        size = sum(shard["bytes"] for shard in content["shards"])
        assert f"{split:<11}{content['examples']:>11,} images ({classes}), 2 shards, {size:,} bytes" in result.out


def test_a_published_data_set_is_left_alone_unless_overwritten(
    tmp_path: Path, convert: Convert, command: Convert
) -> None:
    raw = write_images(tmp_path / "raw", labelled(6))
    assert convert(raw, tmp_path / "out").code == 0
    before = files_of(tmp_path / "out")
    again = convert(raw, tmp_path / "out")
    assert again.code == 2
    assert "published" in again.error
    assert "--overwrite" in again.error
    assert files_of(tmp_path / "out") == before
    write_images(raw, {"NORMAL/new.png": 99})
    assert convert(raw, tmp_path / "out", "--overwrite", "--shards", 2).code == 0
    manifest = manifest_of(tmp_path / "out")
    assert manifest["revision"] == 2
    assert manifest["inputs"]["written"] == 13
    shards = {shard["file"] for split in manifest["splits"].values() for shard in split["shards"]}
    assert {p.name for p in (tmp_path / "out").iterdir()} == shards | PUBLISHED
    assert command(verify.main, tmp_path / "out").code == 0


def test_no_image_metadata_enters_the_data_set(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(4))
    exif = Image.Exif()
    exif[0x010E] = "SECRET-NAME"
    image = Image.fromarray(np.random.default_rng(9).integers(0, 255, (40, 40), dtype=np.uint8))
    image.save(raw / "NORMAL/tagged.jpg", exif=exif, icc_profile=b"SECRET-ICC", comment=b"SECRET-COMMENT")
    assert convert(raw, tmp_path / "out").code == 0
    for name, content in files_of(tmp_path / "out").items():
        for secret in (b"SECRET", b"tagged", str(tmp_path).encode()):
            assert secret not in content, name


def test_the_preview_shows_every_class(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(4))
    assert convert(raw, tmp_path / "out").code == 0
    sheet = Image.open(io.BytesIO((tmp_path / "out/preview.png").read_bytes()))
    assert sheet.width > 64 * 3
    assert sheet.height > 64 * 2


def test_relative_paths_and_unusual_names_are_converted(
    tmp_path: Path, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        *labelled(4),
        "NORMAL/with space.png",
        "NORMAL/ünïcode.png",
        "NORMAL/a#b%20c.png",
        "NORMAL/line\nbreak.png",
    ]
    raw = write_images(tmp_path / "raw", names)
    (raw / "NORMAL/broken\nname.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert convert("raw/", "out/", "--max_reject_fraction", 0.5).code == 0
    assert accounted(tmp_path / "out")["written"] == len(names)
    (line,) = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["uri"] == os.path.join(str(raw), "NORMAL/broken\nname.png")


def test_a_local_run_does_not_use_the_network(tmp_path: Path) -> None:
    # It neither downloads a runner nor looks for credentials. The audit hook fails the run at the first name or address that
    # it asks for.
    script = """
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(hook)
from beam_jobs.convert import main
from schemas.errors import run_command
sys.exit(run_command(main))
"""
    raw = write_images(tmp_path / "raw", labelled(3))
    hidden = ("GOOGLE_", "STORAGE_EMULATOR_HOST", "NO_GCE_CHECK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, "-c", script, "--input", raw, "--output", tmp_path / "out"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


def test_a_broken_link_is_quarantined(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(6))
    (raw / "NORMAL/gone.png").symlink_to(tmp_path / "nowhere.png")
    assert convert(raw, tmp_path / "out", "--max_reject_fraction", 0.5).code == 0
    assert accounted(tmp_path / "out")["quarantined"] == 1
    assert manifest_of(tmp_path / "out")["quarantined"] == {"missing": 1}
