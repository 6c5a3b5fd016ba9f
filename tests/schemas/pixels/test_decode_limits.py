"""What decoding refuses: files that are damaged, cut, too large or hostile; and what refusing them may take or say."""

import pickle
import random
import struct
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from schemas.errors import UsageError
from schemas.pixels.decode import decode
from schemas.pixels.rejection import ImageRejected, ImageSkipped, Reason, SkipReason
from schemas.pixels.settings import ImageSettings
from tests.conftest import ROOT
from tests.schemas import image_files
from tests.schemas.dicom_files import dicom_file
from tests.schemas.image_files import GOOD, REJECTED
from tests.schemas.pictures import NAMES, picture, saved

SETTINGS = ImageSettings()


@pytest.mark.parametrize("kind", REJECTED)
def test_hostile_files_are_rejected_for_the_right_reason(kind: str) -> None:
    make, reason = REJECTED[kind]
    with pytest.raises((ImageRejected, ImageSkipped)) as caught:
        decode(make(), SETTINGS)
    assert isinstance(caught.value, ImageSkipped if isinstance(reason, SkipReason) else ImageRejected)
    assert caught.value.reason is reason
    assert not any(name in str(caught.value) for name in NAMES)


def test_limits_come_from_the_settings() -> None:
    data = saved(Image.new("L", (200, 100)), "PNG")
    assert decode(data, ImageSettings(max_pixels=20_000)).format == "png"
    with pytest.raises(ImageRejected, match="200x100 is above the limit of 19999"):
        decode(data, ImageSettings(max_pixels=19_999))
    with pytest.raises(ImageRejected, match=r"longer than 1\.5:1"):
        decode(data, ImageSettings(max_aspect=1.5))


def test_pillows_own_pixel_limit_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for kind in ("gray.png", "gray.bmp", "lossless.webp"):
        assert decode(GOOD[kind](), SETTINGS).pixels.any()


def test_cut_headers_and_missing_parts_are_rejected_as_truncated() -> None:
    jpeg = picture("JPEG")
    scan = jpeg.index(b"\xff\xda")
    png = image_files.png_of_size(64, 64, rows=40)  # 40 of 64 rows, complete and in a complete file
    deflated, native = (picture("TIFF", **o) for o in ({"compression": "tiff_deflate"}, {}))
    taller = native.replace(struct.pack("<HHLL", 257, 4, 1, 120), struct.pack("<HHLL", 257, 4, 1, 240))
    assert taller != native
    cuts = [*(jpeg[:end] for end in range(3, scan + 10)), png, taller, deflated[:-9], deflated[:6], native[:-9]]
    for data in cuts:
        with pytest.raises(ImageRejected) as caught:
            decode(data, SETTINGS)
        assert caught.value.reason is Reason.TRUNCATED
    assert not decode(image_files.png_of_size(64, 64, rows=64), SETTINGS).pixels.any()


@pytest.mark.parametrize("progressive", [False, True])
def test_most_damage_inside_a_jpeg_is_noticed(progressive: bool) -> None:
    data = image_files.textured_jpeg(progressive=progressive)
    noticed = 0
    for seed in range(60):
        damaged = bytearray(data)
        start = random.Random(seed).randrange(len(data) // 4, len(data) - 200)
        damaged[start : start + 100] = random.Random(seed).randbytes(100)
        try:
            decode(bytes(damaged), SETTINGS)
        except ImageRejected:
            noticed += 1
    assert noticed > 40


def test_mutated_files_raise_no_other_error(capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(7)
    files = [make() for make in GOOD.values()] + [make() for make, _ in REJECTED.values()]
    settings = ImageSettings(max_pixels=1_000_000)
    details = []
    for _ in range(900):
        data = bytearray(chance.choice(files[:-1]))
        if chance.random() < 0.3:
            data = data[: chance.randrange(len(data) + 1)]
        for _ in range(chance.choice((1, 2, 8)) if data else 0):
            data[chance.randrange(min(len(data), chance.choice((64, 1000, 10**9))))] = chance.choice((0, 1, 127, 255))
        try:
            decoded = decode(bytes(data), settings)
            assert decoded.pixels.shape == (64, 64, 1)
        except (ImageRejected, ImageSkipped) as outcome:
            details.append(str(outcome))
    printed = "".join([*details, *capfd.readouterr()])  # libtiff complains on stderr, which Pillow cannot turn off
    assert not any(name in printed for name in NAMES)


def test_random_bytes_after_a_signature_are_rejected() -> None:
    chance = random.Random(3)
    starts = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x90\0\0\0WEBPVP8X", b"II*\0\x08\0\0\0", b"MM\0*"]
    starts += [
        bytes(128) + b"DICM",
        bytes(128) + b"DICM\x02\0\0\0UL\x04\0",
        b"\x08\0\x05\0CS",
        b"\x08\0\x05\0\x0a\0\0\0",
    ]
    for start in starts * 20:
        with pytest.raises((ImageRejected, ImageSkipped)):
            decode(start + chance.randbytes(chance.choice((0, 3, 50, 500))), SETTINGS)


def test_warnings_stay_silent_even_if_they_are_errors() -> None:
    # pydicom warns about an invalid UID, and about pixels without an end.
    odd = dicom_file(SOPClassUID="1.2.3.4.5.6.7").replace(b"1.2.3.4.5.6.7", b"Zebedee^Quill")
    filters = len(warnings.filters)
    for _ in range(3):
        assert decode(odd, SETTINGS).pixels.any()
        with pytest.raises(ImageRejected, match="no end"):
            decode(image_files.REJECTED["cut jpeg.dcm"][0](), SETTINGS)
    assert len(warnings.filters) <= filters + 1


PEAK = """
import sys
from pathlib import Path
from schemas.pixels.rejection import ImageRejected
from schemas.pixels.settings import ImageSettings
from schemas.pixels.decode import decode
from tests.schemas import dicom_files, image_files

def peak():  # not ru_maxrss, which starts at the parent's peak
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

make = getattr(dicom_files, sys.argv[1], None) or getattr(image_files, sys.argv[1])
data = make(*(int(word) if word.isdigit() else word for word in sys.argv[2:]))
Path("/proc/self/clear_refs").write_text("5")  # resets the peak
before = peak()
try:
    decode(data, ImageSettings())
    print("decoded")
except ImageRejected as rejected:
    print(rejected.reason.value)
print(peak() - before)
"""


def test_webp_has_a_lower_pixel_limit() -> None:
    webp = b"RIFF\x18\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (8999).to_bytes(3, "little") * 2 + b"\0\0"
    with pytest.raises(ImageRejected, match="9000x9000 is above the 30000000"):
        decode(webp, SETTINGS)


def test_a_bomb_is_rejected_from_its_header() -> None:
    bomb = image_files.png_of_size(30_000, 30_000, rows=1000)
    start = time.thread_time()  # not wall time, of which a busy machine takes more
    with pytest.raises(ImageRejected) as caught:
        decode(bomb, SETTINGS)
    assert time.thread_time() - start < 0.5
    assert caught.value.reason is Reason.TOO_MANY_PIXELS
    assert caught.value.detail.startswith("30000x30000 ")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("make", "outcome", "megabytes"),
    [
        (("png_of_size", "30000", "30000", "1000"), "too_many_pixels", 20),
        (("png_of_size", "10000", "10000", "10000"), "decoded", 300),
        (("large_picture", "PNG", "LA", "6000"), "decoded", 300),  # once 450
        (("large_picture", "TIFF", "CMYK", "6000"), "decoded", 250),  # once 500
        (("large_dicom", "YBR_FULL", "4000"), "decoded", 180),  # once 500
        (("large_dicom", "JPEG", "9900"), "decoded", 400),  # once 2500
        (("many_frames", "300"), "multi_frame", 20),  # once 900
    ],
    ids=str,
)
def test_peak_memory_is_bounded(make: tuple[str, ...], outcome: str, megabytes: int) -> None:
    run = [sys.executable, "-c", PEAK, *make]
    said, extra = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert said == outcome
    assert int(extra) < megabytes


def test_rejections_survive_pickling() -> None:
    for error in (ImageRejected(Reason.DAMAGED, "detail", "png"), ImageSkipped(SkipReason.DICOMDIR)):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
        assert (copy.reason, copy.format, str(copy)) == (error.reason, error.format, str(error))


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_size", 0), ("image_size", 64.5), ("channels", 2), ("resize_mode", "squash"), ("crop", 0.0), ("crop", 1.5)]
    + [("brightness", -2.0), ("contrast", 0.0), ("max_pixels", 0), ("max_aspect", float("nan"))],
)
def test_errors_about_settings_name_the_flag_and_the_value(field: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        replace(SETTINGS, **{field: value})
    assert f"--{field} {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    "module",
    sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "schemas").rglob("[!_]*.py")),
)
def test_a_warning_attributed_to_any_module_of_schemas_is_silenced(module: str) -> None:
    # pydicom's warnings quote values, and some are attributed to the module that called it.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(picture("PNG"), ImageSettings())
        warnings.warn_explicit("a value of an attribute", UserWarning, "any.py", 1, module=module)
