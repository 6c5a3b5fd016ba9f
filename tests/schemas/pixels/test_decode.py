import io
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from schemas.pixels.decode import decode
from schemas.pixels.settings import RESIZE_MODES, ImageSettings
from tests.schemas import image_files
from tests.schemas.image_files import GOOD
from tests.schemas.pictures import picture, saved, scene

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
    data = picture("JPEG", exif=b"Exif\0\0" + exif)
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


def test_threads_give_the_same_pixels() -> None:
    files = [make() for make in GOOD.values()] * 4
    alone = [decode(data, SETTINGS) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data, SETTINGS), files))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
