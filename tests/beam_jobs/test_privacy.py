"""No patient data from an image's metadata reaches an output or a log, whether the image is converted or rejected."""

import json
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs import show
from beam_jobs.convert import main
from beam_jobs.reading.manifest import require_manifest
from beam_jobs.reading.shards import read_examples
from schemas.pixels.rejection import Reason
from tests.conftest import Result, convert_command, files_of, labelled, manifest_of, write_images
from tests.schemas.dicom_files import dicom_file
from tests.schemas.image_files import GOOD, REJECTED
from tests.schemas.pictures import NAMES, scene

Convert = Callable[..., Result]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Files of every good and rejected kind, and DICOM files full of names that are damaged in ways that make decoders
    complain: cut at many places, or with two bytes changed."""
    folder = write_images(tmp_path / "raw", labelled(10))
    for name, make in {**GOOD, **{name: make for name, (make, _) in REJECTED.items()}}.items():
        (folder / "NORMAL" / f"kind {name}").write_bytes(make())
    whole = dicom_file(scene(24, 24))
    for n in range(140, len(whole), len(whole) // 25):
        (folder / "PNEUMONIA" / f"cut{n}.dcm").write_bytes(whole[:n])
        (folder / "PNEUMONIA" / f"odd{n}.dcm").write_bytes(whole[:n] + b"\xff\xfe" + whole[n + 2 :])
    return folder


def names_in(content: bytes) -> list[str]:
    """The names that are in `content`, in upper or lower case, whole or in part."""
    content = content.upper()
    return [
        name for name in NAMES if any(part.encode() in content for part in name.upper().split("^") if len(part) > 4)
    ]


def test_the_search_for_names_finds_them(raw: Path) -> None:
    assert names_in((raw / "NORMAL/kind gray.dcm").read_bytes()) == list(NAMES)


def test_no_image_attribute_is_in_any_output_or_log(raw: Path, tmp_path: Path) -> None:
    command = convert_command(raw, tmp_path / "out", "--debug", "--shards", 2, "--max_reject_fraction")
    for fraction, code in (("0", 1), ("1", 0)):  # the first run leaves its work folder, with the marks of its shards
        done = subprocess.run([*command, fraction], capture_output=True, timeout=300)
        assert done.returncode == code, done.stderr.decode()
        for where, content in {**files_of(tmp_path / "out"), "stdout": done.stdout, "stderr": done.stderr}.items():
            assert not names_in(content), where
    quarantined = manifest_of(tmp_path / "out")["quarantined"]
    rejected_by_dicom = {reason for name, (_, reason) in REJECTED.items() if name.endswith(".dcm")}
    assert {reason.value for reason in rejected_by_dicom if isinstance(reason, Reason)} <= quarantined.keys()


def test_no_image_attribute_is_in_a_log_line_of_any_level(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "apache_beam"):
        arguments = ["--input", raw, "--output", tmp_path / "out", "--max_reject_fraction", 1, "--debug"]
        main([str(argument) for argument in arguments])
    assert caplog.records
    assert not names_in("".join(f"{record.getMessage()}{record.exc_text}" for record in caplog.records).encode())
    assert not names_in("".join(capfd.readouterr()).encode())


def test_every_field_of_a_quarantine_line_is_filled(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(6))
    (raw / "NORMAL/empty.png").write_bytes(b"")
    (raw / "NORMAL/cut.png").write_bytes((raw / "NORMAL/1.png").read_bytes()[:500])
    (raw / "NORMAL/loop.png").symlink_to("loop.png")
    rows = [f"{path.relative_to(raw)},{path.parent.name}" for path in sorted(raw.rglob("*.png"))]
    rows.append("NORMAL/gone.png,NORMAL")
    (tmp_path / "rows.csv").write_text("\n".join(["image_uri,label", *rows]))
    result = convert(raw, tmp_path / "out", "--manifest", tmp_path / "rows.csv", "--max_reject_fraction", 1)
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    found = {Path(line["uri"]).name: line for line in lines}
    assert found.keys() == {"empty.png", "cut.png", "loop.png", "gone.png"}
    for name, line in found.items():
        assert line["uri"] == str(raw / "NORMAL" / name)
        assert all(line[field] for field in ("stage", "reason", "detail", "format")), line
    read = {name: (found[name]["stage"], found[name]["checksum"], found[name]["size"]) for name in found}
    assert read["empty.png"] == ("decode", "md5:d41d8cd98f00b204e9800998ecf8427e", 0)
    assert read["cut.png"][0] == "decode"
    assert len(read["cut.png"][1]) == len("md5:") + 32
    assert read["cut.png"][2] == 500
    assert read["gone.png"] == read["loop.png"] == ("read", "", None)


def test_an_unreadable_file_is_quarantined_with_the_size_from_the_listing(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(6))
    (raw / "NORMAL/link.png").symlink_to("/proc/self/mem")  # it exists but cannot be read from its beginning
    result = convert(raw, tmp_path / "out", "--max_reject_fraction", 1)
    assert result.code == 0, result.err
    (line,) = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert (found["stage"], found["reason"], found["format"], found["size"]) == ("read", "unreadable", "unknown", 0)
    assert found["detail"] == "Input/output error"


def test_source_uris_are_stored_only_if_asked_for(tmp_path: Path, convert: Convert, command: Convert) -> None:
    names = [*labelled(4), "NORMAL/line\nbreak ü.png"]
    raw = write_images(tmp_path / "raw", names)
    for output, flags in (("plain", ()), ("with", ("--include_source_uri",))):
        assert convert(raw, tmp_path / output, *flags).code == 0
    for name, content in files_of(tmp_path / "plain").items():
        assert str(raw).encode() not in content, name
        assert b"source_uri" not in content or name == "manifest.json", name
    dataset = tmp_path / "with"
    manifest = require_manifest(str(dataset))
    uris = {e.source_uri for split in manifest.splits for e in read_examples(str(dataset), manifest, split)}
    assert uris == {str(raw / name) for name in names}
    assert manifest.settings["include_source_uri"] is True
    assert "source_uri" in json.loads((dataset / "features.json").read_text())["featuresDict"]["features"]
    assert 'name: "source_uri" type: BYTES' in (dataset / "schema.pbtxt").read_text()
    shown = command(show.main, dataset, "--count", 99).out
    assert json.dumps(str(raw / "NORMAL/0.png")) in shown or json.dumps(str(raw / "NORMAL/1.png")) in shown
    assert str(raw) not in command(show.main, tmp_path / "plain").out
