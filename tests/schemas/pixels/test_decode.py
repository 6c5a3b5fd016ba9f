import io
import pickle
import random
import struct
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import UsageError
from schemas.pixels.decode import decode
from schemas.pixels.rejection import ImageRejected, ImageSkipped, Reason, SkipReason
from schemas.pixels.settings import RESIZE_MODES, ImageSettings
from tests.conftest import ROOT
from tests.schemas import image_files
from tests.schemas.image_files import GOOD, REJECTED, picture, saved, scene

SETTINGS = ImageSettings()
EXTENSIONS = {"jpg": "jpeg", "png": "png", "tiff": "tiff", "bmp": "bmp", "gif": "gif", "webp": "webp", "dcm": "dicom"}


def pixels(data: bytes, settings: ImageSettings = SETTINGS) -> NDArray[np.int_]:
    return decode(data, settings).pixels[:, :, 0].astype(int)


def reference(image: NDArray[Any], size: int = 64) -> NDArray[np.float64]:
    """The means of equal blocks of an enlarged image: a resize that shares no code with Pillow's."""
    height, width = image.shape
    big = image.astype(float).repeat(size // gcd(height, size), 0).repeat(size // gcd(width, size), 1)
    means: NDArray[np.float64] = big.reshape(size, big.shape[0] // size, size, big.shape[1] // size).mean((1, 3))
    return means


def far(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(actual - expected).max())


@pytest.mark.parametrize("kind", GOOD)
def test_unusual_files_are_decoded(kind: str) -> None:
    decoded = decode(GOOD[kind](), SETTINGS)
    expected = "png" if kind == "png named.jpg" else EXTENSIONS[kind.rsplit(".", 1)[1]]
    assert decoded.format == expected
    assert decoded.pixels.shape == (64, 64, 1)
    assert decoded.pixels.dtype == np.uint8


@pytest.mark.parametrize("kind", REJECTED)
def test_hostile_files_are_rejected_for_the_right_reason(kind: str) -> None:
    make, reason = REJECTED[kind]
    with pytest.raises((ImageRejected, ImageSkipped)) as caught:
        decode(make(), SETTINGS)
    assert isinstance(caught.value, ImageSkipped if isinstance(reason, SkipReason) else ImageRejected)
    assert caught.value.reason is reason
    assert not any(name in str(caught.value) for name in image_files.NAMES)


@pytest.mark.parametrize(
    "kind",
    ["gray.jpg", "rgb.jpg", "progressive.jpg", "cmyk.jpg", "ycck.jpg", "turned.jpg", "trailing bytes.jpg", "gray.png"]
    + ["png named.jpg", "gray.tiff", "lzw.tiff", "cmyk.tiff", "gray.bmp", "still.gif", "lossy.webp", "lossless.webp"]
    + ["gray.dcm", "no file meta.dcm", "explicit no file meta.dcm", "rgb.dcm", "jpeg.dcm"],
)
def test_every_format_gives_the_same_levels(kind: str) -> None:
    assert far(pixels(GOOD[kind]()), reference(scene())) <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "options"), [("JPEG", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_exif_orientation_is_applied(format: str, options: dict[str, bool], orientation: int) -> None:
    assert far(pixels(image_files.oriented(format, orientation, **options)), reference(scene())) <= 4


def test_a_compressed_tiff_is_rotated_once() -> None:
    data = image_files.oriented("TIFF", 6, compression="tiff_lzw")
    assert far(pixels(data), reference(scene())) <= 3


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"]
)
def test_damaged_exif_leaves_the_image_upright(exif: bytes) -> None:
    data = image_files.picture("JPEG", exif=b"Exif\0\0" + exif)
    assert far(pixels(data), reference(scene())) <= 4


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("crop", [1.0, 0.6])
def test_a_scaled_jpeg_decode_equals_a_full_decode(mode: str, crop: float) -> None:
    photo = scene(1500, 2100)
    settings = ImageSettings(resize_mode=mode, crop=crop)
    jpeg, png = saved(Image.fromarray(photo), "JPEG", quality=95), saved(Image.fromarray(photo), "PNG")
    assert far(pixels(jpeg, settings), pixels(png, settings)) <= 3


@pytest.mark.parametrize("greatest", [1023, 4095, 65535])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_16_bit_gradient_stays_a_gradient(format: str, greatest: int) -> None:
    row = pixels(image_files.deep_gradient(format, greatest))[0]
    assert far(row, np.linspace(0, 255, 256).reshape(64, 4).mean(1)) <= 2
    assert len(np.unique(row)) == 64


def test_big_endian_16_bit_files_equal_little_endian_ones() -> None:
    little = io.BytesIO(image_files.deep_gradient("TIFF"))
    swapped = Image.fromarray(np.asarray(Image.open(little)).astype(">u2"))
    assert swapped.mode == "I;16B"
    np.testing.assert_array_equal(pixels(saved(swapped, "TIFF")), pixels(little.getvalue()))


def test_a_float_tiff_is_scaled_by_its_own_range() -> None:
    gray = scene().astype(float)
    expected = reference((gray - gray.min()) / (gray.max() - gray.min()) * 255)
    assert far(pixels(image_files.float_tiff()), expected) <= 3
    assert far(pixels(saved(Image.new("F", (30, 30), 7.5), "TIFF")), np.zeros((64, 64))) == 0


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_alpha_is_flattened_on_black(mode: str) -> None:
    flat = Image.fromarray(np.where(np.arange(160) < 80, scene(), 0).astype(np.uint8))
    assert far(pixels(saved(image_files.transparent(mode), "PNG")), pixels(saved(flat, "PNG"))) <= 1


def test_palette_and_one_bit_images_are_decoded() -> None:
    palette = Image.fromarray(scene()).convert("P")
    palette.putpalette([255 - level // 3 for level in range(768)])
    assert far(pixels(saved(palette, "PNG")), reference(255 - scene().astype(int))) <= 3
    halves = np.repeat([0, 255], 32).astype(np.uint8)[np.newaxis].repeat(64, 0)
    assert far(pixels(saved(Image.fromarray(halves).convert("1"), "PNG")), halves) == 0


def test_a_transparent_palette_entry_is_black() -> None:
    palette = Image.fromarray(np.repeat([0, 1], 32).astype(np.uint8)[np.newaxis].repeat(64, 0), "P")
    palette.putpalette([200, 200, 200, 90, 90, 90])
    row = pixels(saved(palette, "PNG", transparency=0))[0]
    assert (row[0], row[-1]) == (0, 90)


def test_letterbox_keeps_the_aspect_ratio_on_black() -> None:
    white = saved(Image.new("L", (200, 100), 255), "PNG")
    result = pixels(white, ImageSettings(resize_mode="letterbox", brightness=-0.2))
    assert (result[16:48] == 204).all()
    assert (result[:16] == 0).all()
    assert (result[48:] == 0).all()
    assert (pixels(white, ImageSettings(resize_mode="letterbox", brightness=0.5))[:16] == 0).all()


def test_crop_takes_the_centre() -> None:
    wide = scene(256, 512)
    assert (
        far(
            pixels(saved(Image.fromarray(wide), "PNG"), ImageSettings(resize_mode="crop")),
            pixels(saved(Image.fromarray(wide[:, 128:384]), "PNG")),
        )
        <= 1
    )
    assert (
        far(
            pixels(saved(Image.fromarray(wide), "PNG"), ImageSettings(crop=0.5)),
            pixels(saved(Image.fromarray(wide[64:192, 128:384]), "PNG")),
        )
        <= 1
    )


def test_brightness_and_contrast_follow_their_formulas() -> None:
    data, plain = saved(Image.fromarray(scene()), "PNG"), pixels(saved(Image.fromarray(scene()), "PNG"))
    brighter = pixels(data, ImageSettings(brightness=0.1))
    np.testing.assert_array_equal(brighter, np.clip(np.rint(plain + 25.5), 0, 255))
    stronger = pixels(data, ImageSettings(contrast=1.5))
    np.testing.assert_array_equal(stronger, np.clip(np.rint(plain * 1.5 - 63.75), 0, 255))


def test_three_channels_repeat_the_gray_channel() -> None:
    data = saved(Image.fromarray(scene()).convert("RGB"), "JPEG")
    three = decode(data, ImageSettings(channels=3)).pixels
    assert three.shape == (64, 64, 3)
    for channel in range(3):
        np.testing.assert_array_equal(three[:, :, channel], decode(data, SETTINGS).pixels[:, :, 0])


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
    jpeg = image_files.picture("JPEG")
    scan = jpeg.index(b"\xff\xda")
    png = image_files.png_of_size(64, 64, rows=40)  # 40 of 64 rows, complete and in a complete file
    deflated, native = (image_files.picture("TIFF", **o) for o in ({"compression": "tiff_deflate"}, {}))
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
    assert not any(name in printed for name in image_files.NAMES)


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


def test_threads_give_the_same_pixels() -> None:
    files = [make() for make in GOOD.values()] * 4
    alone = [decode(data, SETTINGS) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data, SETTINGS), files))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_warnings_stay_silent_even_if_they_are_errors() -> None:
    # pydicom warns about an invalid UID, and about pixels without an end.
    odd = image_files.dicom_file(SOPClassUID="1.2.3.4.5.6.7").replace(b"1.2.3.4.5.6.7", b"Zebedee^Quill")
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
from tests.schemas import image_files

def peak():  # not ru_maxrss, which starts at the parent's peak
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

data = getattr(image_files, sys.argv[1])(*(int(word) if word.isdigit() else word for word in sys.argv[2:]))
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
    start = time.perf_counter()
    with pytest.raises(ImageRejected) as caught:
        decode(bomb, SETTINGS)
    assert time.perf_counter() - start < 0.5
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
