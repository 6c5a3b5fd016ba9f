"""The whole conversion of hostile and unusual files. The long tests run in `make test-hostile`."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from schemas.pixels.rejection import SkipReason
from tests.beam_jobs.standin_words import EXIT, HANG, stand_in_path
from tests.conftest import Result, files_of, labelled, manifest_of, write_images
from tests.schemas.dicom_files import dicom_bytes, dicom_file, dicom_object, large_dicom, many_frames, twelve_bits
from tests.schemas.image_files import GOOD, REJECTED, large_picture, png_of_size
from tests.schemas.pictures import NAMES, picture, scene, variant

Convert = Callable[..., Result]
FILES, HOSTILE = 2000, 300


def quarantine_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def test_dicom_objects_that_are_not_images_are_skipped_and_oddities_are_noted(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    (raw / "NORMAL/DICOMDIR").write_bytes(REJECTED["DICOMDIR"][0]())  # recognised by its name
    (raw / "NORMAL/index.dcm").write_bytes(REJECTED["DICOMDIR"][0]() + bytes(2))  # recognised by its content
    for kind in ("report.dcm", "state.dcm", "video.dcm"):
        (raw / "NORMAL" / kind).write_bytes(REJECTED[kind][0]())
    for kind in ("no file meta.dcm", "png named.jpg", "cmyk.jpg"):
        (raw / "NORMAL" / kind).write_bytes(GOOD[kind]())
    (raw / "NORMAL/window.dcm").write_bytes(dicom_file(WindowCenter=5, WindowWidth=0))
    assert convert(raw, tmp_path / "out", "--max_reject_fraction", 0.2).code == 0
    manifest = manifest_of(tmp_path / "out")
    skipped = {"not_an_image_name": 1, "dicomdir": 1, "presentation_state": 1, "structured_report": 1}
    assert manifest["skipped"] == skipped
    assert manifest["notes"] == {"dicom_without_file_meta": 1, "dicom_window_unusable": 1, "mislabelled": 1}
    (entry,) = quarantine_of(tmp_path / "out")
    assert (entry["reason"], entry["format"]) == ("unsupported_transfer_syntax", "dicom")
    assert "MPEG2" in str(entry["detail"])


def test_burned_in_annotation_is_quarantined_unless_allowed(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    (raw / "NORMAL/named.dcm").write_bytes(REJECTED["named.dcm"][0]())
    assert convert(raw, tmp_path / "out", "--max_reject_fraction", 0.2).code == 0
    assert manifest_of(tmp_path / "out")["quarantined"] == {"burned_in_annotation": 1}
    assert convert(raw, tmp_path / "allowed", "--allow_burned_in").code == 0
    manifest = manifest_of(tmp_path / "allowed")
    assert manifest["inputs"]["written"] == 21
    assert manifest["image"]["allow_burned_in"] is True


def test_images_above_max_pixels_are_quarantined(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    write_images(raw, ["NORMAL/large.png"], side=60)
    flags = ("--max_reject_fraction", 0.2, "--max_pixels")
    assert convert(raw, tmp_path / "out", *flags, 59 * 60).code == 0
    assert [entry["detail"] for entry in quarantine_of(tmp_path / "out")] == ["60x60 is above the limit of 3540 pixels"]
    assert convert(raw, tmp_path / "more", *flags, 60 * 60).code == 0
    assert manifest_of(tmp_path / "more")["quarantined"] == {}


def test_unusual_names_are_escaped_in_the_quarantine(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    names = [
        "with space.jpg",
        "ünï码.jpg",
        "a#b.jpg",
        "50%20off.jpg",
        "line\nbreak.jpg",
        'quo"te\\.jpg',
        "\x1b[31m.jpg",
    ]
    for number, name in enumerate(names):
        (raw / "NORMAL" / name).write_bytes(b"<html>%d" % number)
    (raw / "NORMAL" / os.fsdecode(b"latin-\xe9.jpg")).write_bytes(b"<html>")
    result = convert(raw, tmp_path / "out", "--max_reject_fraction", 0.5)
    assert result.code == 0, result.err
    text = (tmp_path / "out/quarantine.jsonl").read_text()
    assert text.isascii()
    assert len(text.splitlines()) == len(names)
    found = {Path(str(entry["uri"])).name for entry in quarantine_of(tmp_path / "out")}
    assert found == set(names)
    assert manifest_of(tmp_path / "out")["skipped"] == {"name_not_utf_8": 1}


def test_huge_files_pipes_and_devices_are_quarantined_unread(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    # Two sparse files of equal size, so that the search for duplicates sees them too.
    for number in range(2):
        with (raw / f"NORMAL/frames {number}.dcm").open("wb") as file:
            file.write(dicom_file(NumberOfFrames=2000))
            file.truncate(900_000_000)
    os.mkfifo(raw / "NORMAL/pipe.png")  # nobody writes to it, so a reader would wait
    (raw / "NORMAL/zero.png").symlink_to("/dev/zero")
    result = convert(raw, tmp_path / "out", "--max_reject_fraction", 0.5)
    assert result.code == 0, result.err
    found = {Path(str(entry["uri"])).name: entry for entry in quarantine_of(tmp_path / "out")}
    assert {name: entry["reason"] for name, entry in found.items()} == {
        "frames 0.dcm": "file_too_large",
        "frames 1.dcm": "file_too_large",
        "pipe.png": "missing",
        "zero.png": "missing",
    }
    assert (found["frames 0.dcm"]["size"], found["frames 0.dcm"]["stage"]) == (900_000_000, "read")


def test_files_named_as_another_format_are_counted(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    for name, data in {"a.dcm": picture("PNG"), "b.jpg": dicom_file(), "c.dcm": dicom_file(twelve_bits())}.items():
        (raw / "NORMAL" / name).write_bytes(data)
    assert convert(raw, tmp_path / "out").code == 0
    assert manifest_of(tmp_path / "out")["notes"] == {"mislabelled": 2}


def test_no_name_in_a_dicom_file_reaches_an_output_or_log(tmp_path: Path) -> None:
    """Converts good, broken and unusual files with --debug, and searches every output and log line."""
    raw = write_images(tmp_path / "raw", labelled(5))
    kinds = {**GOOD, **{kind: make for kind, (make, _) in REJECTED.items()}}
    for number, (kind, make) in enumerate(kinds.items()):
        (raw / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number} {kind}").write_bytes(variant(make, 1 + number))
    for number, keyword in enumerate(("WindowCenter", "RescaleSlope", "NumberOfFrames", "SOPClassUID", "BitsStored")):
        elements = {"WindowCenter": "0000001", "WindowWidth": "50", "RescaleSlope": "0000001", "RescaleIntercept": "0"}
        elements |= {"NumberOfFrames": "0000001"} if keyword == "NumberOfFrames" else {}
        data = dicom_file(scene(), **elements).replace(b"0000001", NAMES[0][:7].encode())
        (raw / f"NORMAL/misplaced {number}.dcm").write_bytes(data + bytes(2 * number))
    done = subprocess.run(
        [sys.executable, "-m", "beam_jobs.convert", "--input", str(raw), "--output", str(tmp_path / "out"), "--debug"]
        + ["--max_reject_fraction", "1", "--allow_burned_in"],
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    said = files_of(tmp_path / "out") | {"stdout": done.stdout, "stderr": done.stderr}
    assert manifest_of(tmp_path / "out")["inputs"]["quarantined"] > 20
    for where, content in said.items():
        for name in NAMES:
            assert name[:7].encode() not in content, where


@pytest.mark.hostile
@pytest.mark.skipif(sys.platform != "linux", reason="runs are supervised on Linux only")
def test_two_thousand_files_have_the_expected_outcomes_with_1_and_8_decoders(tmp_path: Path) -> None:
    raw, expected, notes = tmp_path / "raw", Counter[str](), Counter[str]()
    digests = set()

    def add(name: str, data: bytes) -> None:
        digests.add(hashlib.sha256(data).digest())
        path = raw / ("NORMAL", "PNEUMONIA")[len(digests) % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    for number in range(FILES - HOSTILE):
        kind, make = list(GOOD.items())[number % len(GOOD)]
        add(f"{number} {kind}", variant(make, 1 + number))
        expected["written"] += 1
        notes["mislabelled"] += kind == "png named.jpg"
        notes["dicom_without_file_meta"] += "no file meta" in kind
    for number, word in enumerate((EXIT, HANG)):
        add(f"stand-in {number}.png", picture("PNG") + word)
        expected["decoder_timeout" if word is HANG else "decoder_crashed"] += 1
    for number in range(HOSTILE - 2):
        kind, (make, reason) = list(REJECTED.items())[number % len(REJECTED)]
        add(f"{number} {kind}", variant(make, 1 + FILES - HOSTILE + number))
        expected[reason.value] += 1
    assert len(digests) == FILES - expected["empty"] + 1  # all files differ, except the empty ones

    for decoders in (1, 8):
        done = subprocess.run(
            [sys.executable, "-m", "beam_jobs.convert", "--input", str(raw), "--output", str(tmp_path / f"{decoders}")]
            + ["--decoders", str(decoders), "--shards", "6", "--max_reject_fraction", "0.2", "--decode_timeout", "3"],
            env={**os.environ, "PYTHONPATH": stand_in_path()},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        manifest = manifest_of(tmp_path / f"{decoders}")
        skips = {reason.value for reason in SkipReason}
        assert manifest["inputs"] == {
            "listed": FILES,
            "written": FILES - HOSTILE,
            "quarantined": HOSTILE - sum(expected[reason] for reason in skips),
            "duplicates": 0,
            "skipped": sum(expected[reason] for reason in skips),
        }
        assert {"written": FILES - HOSTILE, **manifest["quarantined"], **manifest["skipped"]} == expected
        assert manifest["notes"] == notes
    assert files_of(tmp_path / "1") == files_of(tmp_path / "8")


PEAK = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "beam_jobs.convert", *sys.argv[1:]]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(code)
"""


def deflated_dicom(side: int) -> bytes:
    """A DICOM file of `side` x `side` 16-bit pixels, all 0, in a few hundred kilobytes."""
    native = dicom_object(scene().astype("uint16"), Rows=side, Columns=side)
    native.PixelData = bytes(2 * side * side)
    return dicom_bytes(native, DeflatedExplicitVRLittleEndian)


def gray_image(side: int, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (side, side), 77).save(stream, format, **options)
    return stream.getvalue()


def zlib_bomb_png() -> bytes:
    """A PNG with a small size in its header, whose data inflate to a hundred megabytes."""
    data = png_of_size(200, 200)
    at = data.index(b"IDAT")
    content = zlib.compress(bytes(100_000_000), 9)
    chunk = b"IDAT" + content
    return data[: at - 4] + len(content).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[-12:]


@pytest.mark.hostile
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_bombs_stay_within_the_memory_limit_of_a_decoder(tmp_path: Path) -> None:
    raw = write_images(tmp_path / "raw", labelled(10))
    makers: dict[str, Callable[[], bytes]] = {
        "bomb.png": lambda: png_of_size(30_000, 30_000, rows=1000),
        "stream.png": zlib_bomb_png,
        "gray.tiff": lambda: gray_image(9_900, "TIFF", compression="tiff_lzw"),
        "progressive.jpg": lambda: gray_image(9_900, "JPEG", progressive=True),
        "lossless.webp": lambda: gray_image(5_400, "WEBP", lossless=True),
        "deflated.dcm": lambda: deflated_dicom(9_900),
        "above.dcm": lambda: deflated_dicom(10_100),
        **{f"{n}.png": lambda n=n: png_of_size(10_000, 9_990 + n, rows=9_990 + n) for n in range(4)},  # type: ignore[misc]
        "alpha.png": lambda: large_picture("PNG", "LA", 9_900),
        "colours.tiff": lambda: large_picture("TIFF", "RGB", 9_200),
        "cmyk.tiff": lambda: large_picture("TIFF", "CMYK", 8_000),
        "colours.dcm": lambda: large_dicom("YBR_FULL", 8_500),
        "jpeg.dcm": lambda: large_dicom("JPEG", 9_900),
        "frames.dcm": lambda: many_frames(600),
    }
    for name, make in makers.items():  # kept in no variable: a child's peak begins with what its parent holds
        (raw / "NORMAL" / name).write_bytes(make())
    flags = ["--decoders", "8", "--max_reject_fraction", "0.5"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "--input", raw, "--output", tmp_path / "out", *flags],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(tmp_path / "out")
    print(manifest["quarantined"], done.stdout)
    assert manifest["quarantined"] == {"too_many_pixels": 2, "multi_frame": 1}
    # A decoder's gibibyte comes on top of its libraries; the worker, which holds the files, takes less.
    assert int(done.stdout.split("peak")[1]) < 1024 + 128
